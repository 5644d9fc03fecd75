// SPDX-License-Identifier: Apache-2.0
// Owns the yardstick of a transport over shared memory: one thread's memcpy of the same list.
#pragma once

#include <sys/uio.h>

#include <vector>

#include "core/host_memory.h"
#include "mempool/status.h"

namespace mempool {

/// Copies between the measured side's pieces and a memory of its own, which stands for the other
/// process's. Thread: confined.
class BareCopy {
 public:
  /// Pieces that do not follow each other on the measured side do not on the other. `into` says
  /// that the pieces are what is copied into. Errors: those of HostMemory.
  static Result<BareCopy> open(const std::vector<iovec>& pieces, bool scattered, bool into);
  void move();

 private:
  struct Copy {
    void* to;
    const void* from;
    size_t bytes;
  };

  HostMemory memory_;
  std::vector<Copy> copies_;
};

}  // namespace mempool
