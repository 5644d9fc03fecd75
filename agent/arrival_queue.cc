// SPDX-License-Identifier: Apache-2.0
// Owns the order of arrivals: first come, first taken.
#include "agent/arrival_queue.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/message.h"
#include "core/check.h"

namespace mempool {

void ArrivalQueue::push(Arrival arrival) {
  {
    const std::lock_guard lock(mutex_);
    arrivals_.push_back(std::move(arrival));
    if (event_.valid()) raise_event(event_);
  }
  changed_.notify_one();
}

Result<Arrival> ArrivalQueue::pop(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  const bool came = changed_.wait_for(lock, std::min(timeout, kWaitMax),
                                      [this] { return !arrivals_.empty() || !stopped_.ok(); });
  if (!stopped_.ok()) return stopped_;
  if (!came) return deadline_exceeded(fmt::format("nothing arrived in {} ms", timeout.count()));
  Arrival arrival = std::move(arrivals_.front());
  arrivals_.pop_front();
  if (arrivals_.empty() && event_.valid()) lower_event(event_);
  return arrival;
}

Result<int> ArrivalQueue::descriptor() {
  const std::lock_guard lock(mutex_);
  if (!event_.valid()) {
    MEMPOOL_ASSIGN_OR_RETURN(event_, make_event());
    if (!arrivals_.empty() || !stopped_.ok()) raise_event(event_);
  }
  return event_.number();
}

void ArrivalQueue::stop(const Status& why) {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = why;
    if (event_.valid()) raise_event(event_);
  }
  changed_.notify_all();
}

}  // namespace mempool
