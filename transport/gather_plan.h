// SPDX-License-Identifier: Apache-2.0
// Owns the gather plan: from two placements and two block lists to the fewest calls a backend can
// take. Pure arithmetic on strides; no list of every piece is ever made.
//
// Words: a *piece* is a contiguous range on one side. A *run pair* is a range contiguous on both
// sides after merging. A *call* is one operation posted to a backend: run pairs within its limits.
#pragma once

#include <array>
#include <cstddef>
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
  uint32_t shard = 0;
  bool operator==(const PlanSegment&) const = default;
};

/// Consecutive layers, as the content numbers them.
struct LayerRange {
  uint32_t first = 0;
  uint32_t count = 0;
  bool operator==(const LayerRange&) const = default;
};

/// One side of a plan, a shard: where blocks may lie, and which blocks, in token order. Borrowed.
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
  /// Plan to move `local.blocks[i]` to or from `remote.blocks[i]` for the heads and layers that
  /// both sides' layouts hold. Errors: kInvalidArgument for lists of different length or a block
  /// outside the segments; kUnsupported, naming both, where the layouts do not map (other part
  /// count, vector size or tokens per block, or no head or layer in common).
  static Result<GatherPlan> create(const PlanSide& local, const PlanSide& remote);

  /// Bytes that the plan moves in all.
  uint64_t bytes() const { return bytes_; }
  /// Ranges contiguous on both sides inside one block, never merged across blocks: what the paper
  /// counts as network calls (2 x layers x blocks when a side is discrete; blocks when both are
  /// aggregated).
  uint64_t paper_calls() const { return paper_calls_; }

  /// The layers that both sides hold; a new plan walks them all.
  LayerRange layers() const { return {first_layer_, layers_}; }
  /// Walk those of these layers that both sides hold, from their first call on. What was walked
  /// before stays counted; what was not is left out.
  void select_layers(LayerRange range);

  /// Fill `out` with the run pairs of the next call; 0 at the end. A run pair larger than
  /// limits.bytes is cut. Requires: limits are at least 1; out.size() >= 1 bounds the pairs too.
  size_t next_call(const CallLimits& limits, std::span<RunPair> out);
  /// Run pairs that the calls so far moved; one that was cut by a call's limits counts once.
  uint64_t run_pairs() const { return run_pairs_; }

 private:
  // Both sides as five nested loops, outermost first: layer, part, block, row, column; or, where
  // whole blocks lie in one run, block, layer, part, row, column. Rows and columns are the tokens
  // and heads of a piece, in the remote's order, that do not melt into one chunk.
  enum : size_t { kRow = 3, kColumn = 4, kAxes = 5 };

  struct Strides {
    uint32_t region = 0;
    uint64_t layer = 0;
    uint64_t part = 0;
  };
  struct Anchor {  // where one block's first common byte lies
    uint32_t local_segment = 0;
    uint32_t remote_segment = 0;
    uint64_t local_offset = 0;
    uint64_t remote_offset = 0;
  };
  struct Loop {
    uint64_t count = 1;
    uint64_t local_stride = 0;
    uint64_t remote_stride = 0;
  };

  static size_t fold(std::span<const Loop> loops, uint64_t& bytes);
  void plan_pieces(const PlanSegment& local, const PlanSegment& remote);
  Status place_blocks(const PlanSide& local, const PlanSide& remote);
  uint64_t ranges_of(const Anchor& anchor) const;
  bool at_end() const { return at_[0] == counts_[0]; }
  RunPair chunk() const;
  void advance();

  std::vector<Strides> local_;
  std::vector<Strides> remote_;
  std::vector<Anchor> anchors_;
  uint32_t first_layer_ = 0;
  uint32_t layers_ = 0;
  uint32_t from_layer_ = 0;  // where the walk starts, counted from first_layer_
  uint32_t parts_ = 0;
  Loop rows_;
  Loop columns_;
  uint64_t chunk_bytes_ = 0;
  uint64_t bytes_ = 0;
  uint64_t paper_calls_ = 0;

  size_t layer_axis_ = 0;
  size_t part_axis_ = 1;
  size_t block_axis_ = 2;
  std::array<uint64_t, kAxes> counts_{};
  std::array<uint64_t, kAxes> at_{};
  uint64_t run_pairs_ = 0;
  RunPair given_;       // the last range handed out; empty before the first
  uint64_t taken_ = 0;  // bytes of the chunk under the cursor that an earlier call took
};

}  // namespace mempool
