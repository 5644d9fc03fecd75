// SPDX-License-Identifier: Apache-2.0
// Owns the comparison of shards by their heads.
#include "transport/shard_pairs.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/check.h"

namespace mempool {
namespace {

using Shard = std::span<const PlanSegment>;

std::vector<Shard> by_shard(std::span<const PlanSegment> segments) {
  std::vector<Shard> shards;
  while (!segments.empty()) {
    const auto next = std::ranges::find_if(segments, [&](const PlanSegment& segment) {
      return segment.shard != segments.front().shard;
    });
    const auto count = static_cast<size_t>(next - segments.begin());
    shards.push_back(segments.first(count));
    segments = segments.subspan(count);
  }
  return shards;
}

const BlockLayout& layout_of(Shard shard) {
  return shard.front().layout;
}

bool same_heads(const BlockLayout& a, const BlockLayout& b) {
  return a.first_head == b.first_head && a.heads == b.heads;
}

uint64_t end_of_heads(const BlockLayout& layout) {
  return uint64_t{layout.first_head} + layout.heads;
}

bool share_heads(const BlockLayout& a, const BlockLayout& b) {
  return a.first_head < end_of_heads(b) && b.first_head < end_of_heads(a);
}

/// Of the shards that hold a head, the one that sends it to this receiver.
Shard sender_of(std::span<const Shard> shards, uint64_t head, uint32_t receiver) {
  std::vector<Shard> holders;
  for (const Shard& shard : shards) {
    const BlockLayout& layout = layout_of(shard);
    if (layout.first_head <= head && head < end_of_heads(layout)) holders.push_back(shard);
  }
  MEMPOOL_CHECK(!holders.empty());
  return holders[receiver % holders.size()];
}

bool same_blocks(Shard a, Shard b) {
  return std::ranges::equal(a, b, [](const PlanSegment& one, const PlanSegment& other) {
    return one.first_block == other.first_block && one.blocks == other.blocks;
  });
}

/// Each segment is a region of its own, and of the layers and heads that its shard has.
Status check_regions(std::span<const Shard> shards) {
  std::vector<uint32_t> regions;
  for (const Shard& shard : shards) {
    for (const PlanSegment& segment : shard) {
      regions.push_back(segment.region);
      const BlockLayout& layout = segment.layout;
      const BlockLayout& all = layout_of(shards.front());
      if (layout.layers == all.layers && layout.first_layer == all.first_layer &&
          same_heads(layout, layout_of(shard))) {
        continue;
      }
      return invalid_argument(
          fmt::format("region {} holds other layers or heads than the rest of shard {}",
                      segment.region, segment.shard));
    }
  }
  std::ranges::sort(regions);
  const auto twice = std::ranges::adjacent_find(regions);
  if (twice == regions.end()) return {};
  return invalid_argument(fmt::format("region {} is named twice", *twice));
}

Status check_ranks(std::span<const Shard> shards) {
  if (shards.empty() || shards.size() > kShardsMax) {
    return invalid_argument(
        fmt::format("an instance of {} shards: give 1 to {}", shards.size(), kShardsMax));
  }
  for (uint32_t rank = 0; rank < shards.size(); ++rank) {
    if (shards[rank].front().shard != rank) {
      return invalid_argument(
          fmt::format("shard {} comes where shard {} should: give all ranks, "
                      "in their order",
                      shards[rank].front().shard, rank));
    }
    if (!same_blocks(shards[rank], shards.front())) {
      return invalid_argument(fmt::format(
          "shard {} has other blocks than shard 0: a block must be in every shard", rank));
    }
  }
  return {};
}

}  // namespace

Status check_shards(std::span<const PlanSegment> segments, uint32_t heads) {
  const std::vector<Shard> shards = by_shard(segments);
  MEMPOOL_RETURN_IF_ERROR(check_ranks(shards));
  uint64_t held = 0;  // heads, each once
  for (size_t rank = 0; rank < shards.size(); ++rank) {
    const BlockLayout& layout = layout_of(shards[rank]);
    bool replica = false;
    for (size_t before = 0; before < rank; ++before) {
      const BlockLayout& other = layout_of(shards[before]);
      if (!share_heads(layout, other)) continue;
      replica = true;
      if (layout.replicated && other.replicated && same_heads(layout, other)) continue;
      return invalid_argument(
          fmt::format("shards {} and {} both hold heads from {} on and are not replicas of each "
                      "other",
                      before, rank, std::max(layout.first_head, other.first_head)));
    }
    if (!replica) held += layout.heads;
    if (end_of_heads(layout) > heads) {
      return invalid_argument(fmt::format("shard {} holds {} heads from {}, the model has {}", rank,
                                          layout.heads, layout.first_head, heads));
    }
  }
  if (held == heads) return check_regions(shards);
  return invalid_argument(
      fmt::format("the {} shards hold {} of the model's {} heads", shards.size(), held, heads));
}

std::vector<BlockLayout> layouts_of(std::span<const PlanSegment> segments) {
  std::vector<BlockLayout> layouts;
  for (const Shard& shard : by_shard(segments)) layouts.push_back(layout_of(shard));
  return layouts;
}

std::vector<ShardPair> pair_shards(std::span<const PlanSegment> from,
                                   std::span<const PlanSegment> to) {
  const std::vector<Shard> senders = by_shard(from);
  std::vector<ShardPair> pairs;
  for (const Shard& receiver : by_shard(to)) {
    const BlockLayout& layout = layout_of(receiver);
    for (uint64_t head = layout.first_head; head < end_of_heads(layout);) {
      const Shard sender = sender_of(senders, head, receiver.front().shard);
      pairs.push_back({sender, receiver});
      head = end_of_heads(layout_of(sender));
    }
  }
  return pairs;
}

}  // namespace mempool
