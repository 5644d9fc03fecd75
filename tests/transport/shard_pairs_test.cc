// SPDX-License-Identifier: Apache-2.0
// Tests which shards of two instances are paired, and which lists of shards are refused.
#include "transport/shard_pairs.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace mempool {
namespace {

constexpr uint32_t kBlocks = 4;

ContentSpec spec_of(uint32_t heads) {
  return {.layers = 2, .kv_heads = heads, .head_size = 2};
}

/// What an instance of so many shards tells of itself, in two segments.
std::vector<PlanSegment> instance(const ContentSpec& spec, uint32_t shards) {
  std::vector<PlanSegment> segments;
  uint32_t rank = 0;
  const auto placements = make_shards(spec, {}, shards);
  for (const Placement& placement : *placements) {
    for (const uint32_t first_block : {0u, kBlocks}) {
      const auto region = static_cast<uint32_t>(segments.size());
      segments.push_back(
          {region, first_block, kBlocks, make_layout(spec, placement, kBlocks).value(), rank});
    }
    ++rank;
  }
  return segments;
}

using Ranks = std::vector<std::pair<uint32_t, uint32_t>>;

Ranks pairs_of(const ContentSpec& spec, uint32_t from, uint32_t to) {
  const std::vector<PlanSegment> sender = instance(spec, from);
  const std::vector<PlanSegment> receiver = instance(spec, to);
  Ranks ranks;
  for (const ShardPair& pair : pair_shards(sender, receiver)) {
    EXPECT_EQ(pair.from.size(), 2u);
    EXPECT_EQ(pair.to.size(), 2u);
    ranks.emplace_back(pair.from.back().shard, pair.to.back().shard);
  }
  return ranks;
}

TEST(ShardPairs, equal_instances_pair_rank_by_rank) {
  EXPECT_EQ(pairs_of(spec_of(4), 1, 1), (Ranks{{0, 0}}));
  EXPECT_EQ(pairs_of(spec_of(4), 2, 2), (Ranks{{0, 0}, {1, 1}}));
}

TEST(ShardPairs, a_shard_goes_to_all_that_hold_a_part_of_its_heads) {
  EXPECT_EQ(pairs_of(spec_of(4), 1, 2), (Ranks{{0, 0}, {0, 1}}));
  EXPECT_EQ(pairs_of(spec_of(4), 2, 4), (Ranks{{0, 0}, {0, 1}, {1, 2}, {1, 3}}));
}

TEST(ShardPairs, a_shard_comes_from_all_that_hold_a_part_of_its_heads) {
  EXPECT_EQ(pairs_of(spec_of(4), 2, 1), (Ranks{{0, 0}, {1, 0}}));
  EXPECT_EQ(pairs_of(spec_of(4), 4, 2), (Ranks{{0, 0}, {1, 0}, {2, 1}, {3, 1}}));
}

TEST(ShardPairs, shards_that_do_not_nest_meet_in_their_common_heads) {
  EXPECT_EQ(pairs_of(spec_of(6), 2, 3), (Ranks{{0, 0}, {0, 1}, {1, 1}, {1, 2}}));
}

TEST(ShardPairs, of_replicas_one_sends_and_all_receive) {
  const ContentSpec mla = {.layers = 2, .kv_heads = 1, .mla_rank = 8};
  EXPECT_EQ(pairs_of(mla, 1, 4), (Ranks{{0, 0}, {0, 1}, {0, 2}, {0, 3}}));
  EXPECT_EQ(pairs_of(mla, 4, 1), (Ranks{{0, 0}}));
  EXPECT_EQ(pairs_of(mla, 4, 4), (Ranks{{0, 0}, {1, 1}, {2, 2}, {3, 3}}));
  EXPECT_EQ(pairs_of(spec_of(4), 2, 8),
            (Ranks{{0, 0}, {0, 1}, {0, 2}, {0, 3}, {1, 4}, {1, 5}, {1, 6}, {1, 7}}));
  EXPECT_EQ(pairs_of(spec_of(4), 8, 2), (Ranks{{0, 0}, {2, 0}, {5, 1}, {7, 1}}));
}

TEST(ShardPairs, layouts_are_told_once_a_shard) {
  const std::vector<PlanSegment> segments = instance(spec_of(4), 2);
  const std::vector<BlockLayout> layouts = layouts_of(segments);
  ASSERT_EQ(layouts.size(), 2u);
  EXPECT_EQ(layouts[0], segments[0].layout);
  EXPECT_EQ(layouts[1], segments[2].layout);
}

/// What is said of two shards of four heads, once they are broken.
std::string refusal(const std::function<void(std::vector<PlanSegment>&)>& breaks,
                    uint32_t shards = 2) {
  std::vector<PlanSegment> segments = instance(spec_of(4), shards);
  EXPECT_TRUE(check_shards(segments, 4).ok());
  breaks(segments);
  const Status status = check_shards(segments, 4);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  return std::string(status.message());
}

TEST(CheckShards, no_shards_or_too_many_are_refused) {
  EXPECT_EQ(refusal([](auto& segments) { segments.clear(); }),
            "an instance of 0 shards: give 1 to 64");
  EXPECT_EQ(refusal([](auto& segments) {
              segments.resize(65);
              segments[64].shard = 1;
              for (uint32_t i = 0; i < 65; ++i) segments[i].shard = i;
            }),
            "an instance of 65 shards: give 1 to 64");
}

TEST(CheckShards, ranks_with_a_gap_or_out_of_order_are_refused) {
  EXPECT_EQ(refusal([](auto& segments) { segments[2].shard = segments[3].shard = 2; }),
            "shard 2 comes where shard 1 should: give all ranks, in their order");
  EXPECT_EQ(refusal([](auto& segments) { std::swap(segments[1], segments[2]); }),
            "shard 0 comes where shard 2 should: give all ranks, in their order");
}

TEST(CheckShards, blocks_that_are_not_in_every_shard_are_refused) {
  EXPECT_EQ(refusal([](auto& segments) { segments.pop_back(); }),
            "shard 1 has other blocks than shard 0: a block must be in every shard");
}

TEST(CheckShards, regions_named_twice_or_of_other_shapes_are_refused) {
  EXPECT_EQ(refusal([](auto& segments) { segments[3].region = segments[0].region; }),
            "region 0 is named twice");
  EXPECT_EQ(refusal([](auto& segments) { ++segments[3].layout.first_layer; }),
            "region 3 holds other layers or heads than the rest of shard 1");
}

TEST(CheckShards, heads_that_do_not_cover_the_model_are_refused) {
  EXPECT_EQ(refusal([](auto& segments) { segments[2].layout.heads = 1; }),
            "the 2 shards hold 3 of the model's 4 heads");
  EXPECT_EQ(refusal([](auto& segments) { segments[2].layout.first_head = 3; }),
            "shard 1 holds 2 heads from 3, the model has 4");
}

TEST(CheckShards, heads_held_twice_must_be_replicated_as_a_whole) {
  const std::string overlap =
      "shards 0 and 1 both hold heads from 1 on and are not replicas of each other";
  EXPECT_EQ(refusal([](auto& segments) { segments[2].layout.first_head = 1; }), overlap);
  EXPECT_EQ(refusal([](auto& segments) {
              for (PlanSegment& segment : segments) segment.layout.replicated = true;
              segments[2].layout.first_head = 1;
            }),
            overlap);
  EXPECT_EQ(refusal([](auto& segments) { segments[2].layout.replicated = false; }, 8),
            "shards 0 and 1 both hold heads from 0 on and are not replicas of each other");
}

}  // namespace
}  // namespace mempool
