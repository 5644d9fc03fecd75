// SPDX-License-Identifier: Apache-2.0
// Owns the measurement of fragmentation: into how many runs a request falls in a pool that was used
// for a while.
#pragma once

#include <cstdint>
#include <vector>

#include "mempool/status.h"
#include "perf/measure.h"

namespace mempool {

struct ChurnPerfOptions {
  std::vector<uint32_t> churn;  // per cent of the occupied blocks turned over; a row for each
  uint32_t blocks = 65536;      // of the pool
  uint32_t repeat = 15;         // pools, each of a seed of its own
};

/// Calls of one request of 1,024 tokens, 64 blocks, between two pools of Llama-2-13B: ranges
/// contiguous at both ends.
struct RunPairs {
  Spread discrete;
  Spread aggregated;
};

struct ChurnPerfRow {
  uint32_t churn = 0;
  bool churned_target = false;  // as much as the source; or fresh
  RunPairs ours;                // core's FreeMap
  RunPairs lifo;                // the baseline: a plain list, what was freed last goes out first
};

/// Fill a pool to nine tenths with requests of 8 to 128 blocks; then, until the asked part of the
/// occupied blocks was turned over, take some blocks from the end of a random request, as eviction
/// does, and let new requests fill the room; then take 64 blocks, and plan their transfer to 64
/// blocks of the target. Nothing is timed, and equal options give equal rows.
/// Errors: kInvalidArgument for a pool below 1,024 blocks, no repeats, or a churn above 1,000.
Result<std::vector<ChurnPerfRow>> run_churn_perf(const ChurnPerfOptions& options);

}  // namespace mempool
