// SPDX-License-Identifier: Apache-2.0
// Owns the arrivals that wait for the engine, and the waiting for one.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>

#include "core/descriptor.h"
#include "mempool/pool.h"

namespace mempool {

/// Thread: safe.
class ArrivalQueue {
 public:
  void push(Arrival arrival);
  /// Take the first. Errors: kDeadlineExceeded when none came in time; what stop() said.
  Result<Arrival> pop(std::chrono::milliseconds timeout);
  /// Give a descriptor that is readable while an arrival waits, or after stop(). It is this
  /// queue's. Errors: kResourceExhausted.
  Result<int> descriptor();
  /// Let nobody wait any more.
  void stop(const Status& why);

 private:
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<Arrival> arrivals_;
  Status stopped_;
  Descriptor event_;  // raised while there is something to take; made when it is asked for
};

}  // namespace mempool
