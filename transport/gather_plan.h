// SPDX-License-Identifier: Apache-2.0
// Owns the gather plan: from two placements and two block lists to the fewest calls a backend can
// take. Pure arithmetic on strides; no list of every piece is ever made.
//
// Words: a *piece* is a contiguous range on one side. A *run pair* is a range contiguous on both
// sides after merging. A *call* is one operation posted to a backend: run pairs within its limits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "mempool/content.h"
#include "mempool/status.h"

namespace mempool {

/// One range that is contiguous at both ends. Regions are the transports' ids of registered memory.
struct RunPair {
  uint32_t local_region = 0;
  uint32_t remote_region = 0;
  uint64_t local_offset = 0;   // bytes from the start of the local region
  uint64_t remote_offset = 0;  // bytes from the start of the remote region
  uint64_t bytes = 0;
  bool operator==(const RunPair&) const = default;
};

/// One segment of one shard as a plan sees it: consecutive block indices in one registered region.
struct PlanSegment {
  uint32_t region = 0;
  uint32_t first_block = 0;
  uint32_t blocks = 0;
  BlockLayout layout;
  bool operator==(const PlanSegment&) const = default;
};

/// One side of a plan: where blocks may lie, and which blocks, in token order. Borrowed.
struct PlanSide {
  std::span<const PlanSegment> segments;
  std::span<const uint32_t> blocks;
};

/// What one call may hold, from a backend's capabilities and the direction.
struct CallLimits {
  uint32_t local_pieces = 1;
  uint32_t remote_ranges = 1;
  uint64_t bytes = UINT64_MAX;
};

/// Thread: confined. Copies both block lists, borrows nothing after create().
class GatherPlan {
 public:
  /// Plan to move `local.blocks[i]` to or from `remote.blocks[i]` for the heads and layers that both
  /// sides' layouts hold. Errors: kInvalidArgument for lists of different length or a block outside
  /// the segments; kUnsupported, naming both, where the layouts do not map (other part count, vector
  /// size or tokens per block, or no head or layer in common).
  static Result<GatherPlan> create(const PlanSide& local, const PlanSide& remote);

  /// Bytes that the plan moves in all.
  uint64_t bytes() const { return bytes_; }
  /// Contiguous ranges of the finer side, unmerged: what the paper counts as network calls
  /// (2 x layers x blocks when a side is discrete; blocks when both are aggregated).
  uint64_t paper_calls() const { return paper_calls_; }

  /// Fill `out` with the run pairs of the next call; 0 at the end. A run pair larger than
  /// limits.bytes is cut. Requires: limits are at least 1; out.size() >= 1 bounds the pairs too.
  size_t next_call(const CallLimits& limits, std::span<RunPair> out);
  /// Start again from the first call.
  void rewind();

 private:
  // Chosen and documented by gather_plan.cc's owner: loop dimensions with both strides, the block
  // lists, and the cursor.
  uint64_t bytes_ = 0;
  uint64_t paper_calls_ = 0;
};

}  // namespace mempool
