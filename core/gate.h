// SPDX-License-Identifier: Apache-2.0
// Owns the gate: a count of those inside and a closed bit in one word, so that entering takes no
// lock and closing knows when the last one has left.
#pragma once

#include <atomic>
#include <cstdint>

namespace mempool {

/// Thread: safe.
class Gate {
 public:
  /// Go in, unless the gate is closed. Each success needs one leave().
  bool enter() {
    uint64_t seen = state_.load(std::memory_order_acquire);
    while ((seen & kClosed) == 0) {
      if (state_.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) return true;
    }
    return false;
  }

  /// Go out. True for the one that left a closed gate empty.
  bool leave() {
    if (state_.fetch_sub(1, std::memory_order_acq_rel) != (kClosed | 1)) return false;
    state_.notify_all();
    return true;
  }

  /// Let nobody in any more. True when nobody is inside: no leave() will be the last.
  bool close() { return (state_.fetch_or(kClosed, std::memory_order_acq_rel) & ~kClosed) == 0; }

  /// Close and wait until the last one has left.
  void close_and_wait() {
    close();
    for (uint64_t seen; (seen = state_.load(std::memory_order_acquire)) != kClosed;) {
      state_.wait(seen, std::memory_order_acquire);
    }
  }

  bool closed() const { return (state_.load(std::memory_order_acquire) & kClosed) != 0; }

 private:
  static constexpr uint64_t kClosed = uint64_t{1} << 63;
  std::atomic<uint64_t> state_{0};
};

/// Inside a gate as long as it lives, where the gate was open. Thread: confined; the gate outlives
/// it.
class Visit {
 public:
  explicit Visit(Gate& gate) : gate_(gate), inside_(gate.enter()) {}
  ~Visit() {
    if (inside_) gate_.leave();
  }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;
  explicit operator bool() const { return inside_; }

 private:
  Gate& gate_;
  const bool inside_;
};

}  // namespace mempool
