// SPDX-License-Identifier: Apache-2.0
// Owns the measurement of alloc and free.
#pragma once

#include <cstdint>

#include "mempool/status.h"
#include "perf/measure.h"

namespace mempool {

struct AllocPerfOptions {
  uint32_t batch = 64;      // blocks a call
  uint32_t blocks = 65536;  // of the pool; a repeat takes them all and gives them all back
  uint32_t repeat = 15;
};

struct AllocPerfResult {
  uint64_t blocks = 0;   // taken and given back by each repeat
  Spread alloc_ns;       // a block
  Spread free_ns;        // a block
  Spread alloc_free_ns;  // a block
};

/// Errors: kInvalidArgument for a batch larger than the pool; those of Agent::start().
Result<AllocPerfResult> run_alloc_perf(const AllocPerfOptions& options);

}  // namespace mempool
