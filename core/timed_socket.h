// SPDX-License-Identifier: Apache-2.0
// Owns the use of a stream socket by a thread that waits, never longer than it has time.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "core/descriptor.h"
#include "mempool/status.h"

namespace mempool {

/// The time that an exchange has left, from its making on. Thread: safe to read.
class TimeLeft {
 public:
  explicit TimeLeft(std::chrono::milliseconds time) : end_(Clock::now() + time) {}
  /// Wait for poll's `events`. Errors: kUnavailable when the time is over.
  Status wait(int descriptor, short events) const;

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point end_;
};

/// Connect to "host:port", a host of several addresses to the first that answers, by a socket that
/// blocks. `prepare` sees each socket before it connects.
/// Errors, naming the address: kInvalidArgument for one that is none; kUnavailable.
Result<Descriptor> connect_to(const std::string& address, const TimeLeft& time_left,
                              const std::function<void(int)>& prepare = {});

/// Move all bytes. Errors: kUnavailable, when the other end closed too.
Status send_all(int descriptor, std::span<const std::byte> bytes, const TimeLeft& time_left);
Status receive_all(int descriptor, std::span<std::byte> bytes, const TimeLeft& time_left);

}  // namespace mempool
