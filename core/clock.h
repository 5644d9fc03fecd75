// SPDX-License-Identifier: Apache-2.0
// Owns time as the rest of the tree sees it: a steady clock that tests and the simulator replace.
#pragma once

#include <chrono>

namespace mempool {

using TimePoint = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;

/// Thread: safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint now() const = 0;
};

/// The machine's steady clock.
const Clock& system_clock();

/// A clock that stands still until told. Thread: confined.
class ManualClock final : public Clock {
 public:
  TimePoint now() const override { return now_; }
  void advance(Duration step) { now_ += step; }
  void set(TimePoint now) { now_ = now; }

 private:
  TimePoint now_{};
};

}  // namespace mempool
