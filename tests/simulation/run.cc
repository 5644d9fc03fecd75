// SPDX-License-Identifier: Apache-2.0
// Owns the loop over virtual time.
#include "tests/simulation/run.h"

#include <algorithm>
#include <utility>

namespace mempool::simulation {
namespace {

constexpr uint32_t kMostAtOnce = 10'000;  // events of one point in time

}  // namespace

// The options were drawn from the seed itself; what happens within them is drawn from another word.
Run::Run(const SimulationOptions& options, bool traced)
    : options_(options), random_(Random(~options.seed).next()), traced_(traced) {}

void Run::at(TimePoint time, std::function<void()> event) {
  events_.push({std::max(time, now_), sequence_++, std::move(event)});
}

void Run::run_until(TimePoint end) {
  uint32_t at_once = 0;
  while (!failed() && !events_.empty() && events_.top().time <= end) {
    at_once = events_.top().time == now_ ? at_once + 1 : 0;
    if (at_once > kMostAtOnce) fail("virtual time stands still: a timer rings for nothing");
    // top() is const, but the event is popped before it runs, so that moving it out is safe.
    std::function<void()> run = std::move(const_cast<Event&>(events_.top()).run);
    now_ = events_.top().time;
    events_.pop();
    run();
  }
  now_ = std::max(now_, end);
}

Duration Run::draw(const DelayRange& range) {
  const bool long_one = faulty(range.tail_share);
  const Duration most = long_one ? range.tail : range.most;
  return range.least + Duration(static_cast<Duration::rep>(
                           random_.unit() * static_cast<double>((most - range.least).count())));
}

Duration Run::draw_around(Duration mean) {
  return Duration(1 + random_.below(2 * static_cast<uint64_t>(mean.count()) + 1));
}

double Run::milliseconds() const {
  return std::chrono::duration<double, std::milli>(now_.time_since_epoch()).count();
}

void Run::print(const std::string& line) const {
  fmt::print("{:12.4f} ms  {}\n", milliseconds(), line);
}

void Run::fail(const std::string& what) {
  if (failed()) return;
  failure_ = fmt::format("at {:.4f} ms: {}", milliseconds(), what);
  trace("FAILED: {}", what);
}

void Run::expect(const Status& status, const std::string& what) {
  if (!status.ok()) fail(what + ": " + status.to_string());
}

}  // namespace mempool::simulation
