// SPDX-License-Identifier: Apache-2.0
// Owns file descriptors: their closing, and the events and timers that they stand for.
#pragma once

#include <chrono>
#include <utility>

#include "mempool/status.h"

namespace mempool {

/// A file descriptor, closed at the end. Move-only. Thread: confined.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor();

  int number() const { return number_; }
  bool valid() const { return number_ >= 0; }
  /// Give the number away; it is the caller's to close.
  int release() { return std::exchange(number_, -1); }

 private:
  int number_ = -1;
};

/// Open once more what a number stands for. Errors: kResourceExhausted.
Result<Descriptor> duplicate(int number);

/// Make an event that others wait for by poll(): readable while it is raised (an eventfd).
/// Errors: kResourceExhausted.
Result<Descriptor> make_event();
void raise_event(const Descriptor& event);
void lower_event(const Descriptor& event);

/// Make a timer that others wait for by poll() (a timerfd): readable once its time has come.
/// Errors: kResourceExhausted.
Result<Descriptor> make_timer();
/// Begin its time; it is not readable before the end.
void start_timer(const Descriptor& timer, std::chrono::milliseconds wait);

}  // namespace mempool
