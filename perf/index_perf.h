// SPDX-License-Identifier: Apache-2.0
// Owns the measurement of insert and match.
#pragma once

#include <cstdint>
#include <string>

#include "mempool/status.h"
#include "perf/measure.h"

namespace mempool {

struct IndexPerfOptions {
  uint32_t sequences = 1000;
  uint64_t seed = 1;
  uint32_t repeat = 5;
  std::string verify = "off";
};

/// Times are microseconds for 4,096 tokens, of all tokens asked for.
struct IndexPerfResult {
  uint64_t tokens = 0;         // in whole blocks
  uint64_t blocks = 0;         // of all prompts
  uint64_t unique_blocks = 0;  // that the index holds
  Spread insert_us;
  Spread match_us;  // with addresses and pins
  Spread unpin_us;  // of what match pinned
  double index_bytes_per_block = 0;
};

/// Insert every prompt, match every prompt, each repeat in a fresh agent. Errors: those of Agent.
Result<IndexPerfResult> run_index_perf(const IndexPerfOptions& options);

}  // namespace mempool
