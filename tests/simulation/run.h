// SPDX-License-Identifier: Apache-2.0
// Owns what all parts of one simulated run share: its options, randomness, virtual time, the log
// and the first failure.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <queue>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/random.h"
#include "mempool/status.h"
#include "tests/simulation/simulation_options.h"

namespace mempool::simulation {

/// Events run in the order of their times, those of one time in the order they were asked for, so
/// that a seed always gives the same run. Thread: confined.
class Run {
 public:
  Run(const SimulationOptions& options, bool traced);

  const SimulationOptions& options() const { return options_; }
  Random& random() { return random_; }

  // ---- virtual time ----
  TimePoint now() const { return now_; }
  void at(TimePoint time, std::function<void()> event);
  void after(Duration delay, std::function<void()> event) { at(now_ + delay, std::move(event)); }
  /// Run the events up to `end`; stops early at a failure.
  void run_until(TimePoint end);
  void run_for(Duration time) { run_until(now_ + time); }

  // ---- chance ----
  Duration draw(const DelayRange& range);
  /// A time around `mean`, never 0.
  Duration draw_around(Duration mean);
  /// Chance of a fault; none after heal().
  bool faulty(double probability) { return !healed_ && random_.chance(probability); }
  /// Nothing breaks from now on and nothing is late. Messages go on to be lost and doubled: to ask
  /// again is enough against that.
  void heal() { healed_ = true; }
  bool healed() const { return healed_; }

  // ---- what is said about it ----
  template <typename... Args>
  void trace(fmt::format_string<Args...> format, Args&&... args) {
    if (traced_) print(fmt::format(format, std::forward<Args>(args)...));
  }
  /// Keep the first failure; it ends the run.
  void fail(const std::string& what);
  /// Fail unless `status` is ok.
  void expect(const Status& status, const std::string& what);
  bool failed() const { return !failure_.empty(); }
  const std::string& failure() const { return failure_; }

 private:
  struct Event {
    TimePoint time;
    uint64_t sequence = 0;
    std::function<void()> run;
    bool operator>(const Event& other) const {
      return time != other.time ? time > other.time : sequence > other.sequence;
    }
  };

  void print(const std::string& line) const;
  double milliseconds() const;

  SimulationOptions options_;
  Random random_;
  TimePoint now_{};
  uint64_t sequence_ = 0;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  bool healed_ = false;
  bool traced_ = false;
  std::string failure_;
};

}  // namespace mempool::simulation
