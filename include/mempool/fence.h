// SPDX-License-Identifier: Apache-2.0
// Owns the fence: a moment in an engine's work from which on memory may be read.
#pragma once

#include <functional>
#include <memory>

#include "mempool/export.h"

namespace mempool {

/// Copies share the moment. Thread: safe.
class MEMPOOL_EXPORT Fence {
 public:
  /// Reached from the start: host memory that is ready.
  Fence() = default;
  /// Reached by signal().
  static Fence pending();

  /// The work before it is done. Again, or on a fence reached from the start: nothing.
  void signal() const;
  bool reached() const;
  /// Run `action` once, when the fence is reached: here if it is already, else in the thread that
  /// signals. It may not block. A fence that is never reached keeps it until its last copy goes.
  void then(std::function<void()> action) const;

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared by copies; null: reached
};

}  // namespace mempool
