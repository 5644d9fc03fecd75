// SPDX-License-Identifier: Apache-2.0
// Owns the question which shards of two instances have to do with each other: pure arithmetic on
// the heads that each holds, tested without memory.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "mempool/status.h"
#include "transport/gather_plan.h"

namespace mempool {

/// What moves between one shard of either side: the heads that both hold. Borrows the segments.
struct ShardPair {
  std::span<const PlanSegment> from;  // of one shard
  std::span<const PlanSegment> to;    // of one shard
};

/// Check a list of segments that an instance tells of itself: ranks 0, 1, 2... one after the other,
/// each with the same blocks, and with each of the `heads` of the model held by one of them, or,
/// where they say that they are replicated, by several that hold all the same.
/// Errors: kInvalidArgument, naming the shard.
Status check_shards(std::span<const PlanSegment> segments, uint32_t heads);

/// By shard: how its first segment is laid out. Requires: segments in rank order, here and below.
std::vector<BlockLayout> layouts_of(std::span<const PlanSegment> segments);

/// Find the pairs over which every shard of `to` gets each of its heads once. Of shards that hold
/// the same heads one sends; which of them differs by the receiver, so that all ranks have work.
/// Requires: both lists passed check_shards() for one number of heads.
std::vector<ShardPair> pair_shards(std::span<const PlanSegment> from,
                                   std::span<const PlanSegment> to);

}  // namespace mempool
