// SPDX-License-Identifier: Apache-2.0
// Tests that a block's sum depends on its bytes and not on how they lie.
#include "core/checksum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <span>
#include <vector>

#include "core/random.h"

namespace mempool {
namespace {

constexpr uint32_t kBlocks = 4;

/// One segment of one form, filled piece by piece from a seed so that forms hold equal blocks.
struct Segment {
  BlockLayout layout;
  std::vector<std::byte> bytes;

  Segment(const ContentSpec& spec, BlockForm form, uint64_t seed)
      : layout(make_layout(spec, {.form = form}, kBlocks).value()),
        bytes(layout.block_bytes * kBlocks) {
    Random random(seed);
    for (uint32_t block = 0; block < kBlocks; ++block) {
      for (uint32_t layer = 0; layer < layout.layers; ++layer) {
        for (uint32_t part = 0; part < layout.parts; ++part) fill(block, layer, part, random);
      }
    }
  }

  void fill(uint32_t block, uint32_t layer, uint32_t part, Random& random) {
    std::byte* piece = bytes.data() + layout.piece_offset(block, layer, part);
    for (uint64_t i = 0; i < layout.piece_bytes; ++i) piece[i] = std::byte(random.next() & 0xff);
  }
  BlockView view(uint32_t block) { return {bytes.data(), block, &layout}; }
  uint64_t sum(uint32_t block) { return block_checksum(std::array{view(block)}); }
};

const ContentSpec kSpec = {.layers = 3, .kv_heads = 2, .head_size = 40};
const ContentSpec kTiny = {.layers = 2, .kv_heads = 1, .head_size = 1, .tokens_per_block = 1};
const ContentSpec kMla = {.layers = 3, .kv_heads = 1, .mla_rank = 24};

TEST(Checksum, is_equal_for_discrete_and_aggregated_copies) {
  for (const ContentSpec& spec : {kSpec, kTiny, kMla}) {
    Segment discrete(spec, BlockForm::kDiscrete, 1);
    Segment aggregated(spec, BlockForm::kAggregated, 1);
    for (uint32_t block = 0; block < kBlocks; ++block) {
      EXPECT_EQ(discrete.sum(block), aggregated.sum(block));
    }
  }
}

/// One block in all shards of an instance; every vector has bytes of its own, wherever it lies.
struct ShardedBlock {
  std::vector<BlockLayout> layouts;
  std::vector<std::vector<std::byte>> bytes;

  ShardedBlock(const ContentSpec& spec, uint32_t shards, TokenOrder order) {
    const auto placements = make_shards(spec, {.order = order}, shards);
    for (const Placement& placement : *placements) {
      layouts.push_back(make_layout(spec, placement, 1).value());
      bytes.emplace_back(layouts.back().block_bytes);
    }
    for (const BlockView& shard : views()) fill(shard);
  }

  static void fill(const BlockView& shard) {
    const BlockLayout& layout = *shard.layout;
    for (uint32_t layer = 0; layer < layout.layers; ++layer) {
      for (uint32_t part = 0; part < layout.parts; ++part) {
        for (uint32_t token = 0; token < layout.tokens; ++token) {
          for (uint32_t head = 0; head < layout.heads; ++head) {
            Random random(layer << 24 | part << 16 | token << 8 | (layout.first_head + head));
            std::byte* vector = shard.piece(layer, part) + layout.vector_offset(token, head);
            for (uint64_t i = 0; i < layout.vector_bytes; ++i) {
              vector[i] = std::byte(random.next() & 0xff);
            }
          }
        }
      }
    }
  }

  std::vector<BlockView> views() {
    std::vector<BlockView> views;
    for (size_t i = 0; i < layouts.size(); ++i) views.push_back({bytes[i].data(), 0, &layouts[i]});
    return views;
  }
};

TEST(Checksum, as_another_side_holds_it_is_that_sides_own) {
  const ContentSpec spec = {.layers = 2, .kv_heads = 4, .head_size = 5};
  const std::vector<uint32_t> counts = {1, 2, 4, 8};  // of 8 shards, two hold each head
  for (const TokenOrder here_order : {TokenOrder::kTokenHead, TokenOrder::kHeadToken}) {
    for (const uint32_t here_shards : counts) {
      ShardedBlock here(spec, here_shards, here_order);
      for (const TokenOrder there_order : {TokenOrder::kTokenHead, TokenOrder::kHeadToken}) {
        for (const uint32_t there_shards : counts) {
          ShardedBlock there(spec, there_shards, there_order);
          const bool same = here_order == there_order && here_shards == there_shards;
          EXPECT_EQ(same_sums(here.layouts, there.layouts), same);
          ASSERT_TRUE(maps(there.layouts, here.layouts));
          const uint64_t sum = block_checksum_as(there.layouts, here.views());
          EXPECT_EQ(sum, block_checksum(there.views()));
          if (here_shards != there_shards) {
            EXPECT_NE(sum, block_checksum(here.views()));
          }
        }
      }
    }
  }
}

TEST(Checksum, of_several_shards_changes_with_any_of_them_and_with_their_order) {
  ShardedBlock block({.layers = 2, .kv_heads = 4, .head_size = 5}, 4, TokenOrder::kTokenHead);
  const uint64_t before = block_checksum(block.views());
  for (std::vector<std::byte>& bytes : block.bytes) {
    bytes.back() ^= std::byte{4};
    EXPECT_NE(block_checksum(block.views()), before);
    bytes.back() ^= std::byte{4};
  }
  std::swap(block.bytes[1], block.bytes[2]);
  EXPECT_NE(block_checksum(block.views()), before);
}

TEST(Checksum, replicas_agree_until_a_byte_of_one_differs) {
  ShardedBlock block({.layers = 2, .kv_heads = 2, .head_size = 5}, 4, TokenOrder::kTokenHead);
  EXPECT_TRUE(replicas_agree(block.views()));
  for (std::vector<std::byte>& bytes : block.bytes) {
    bytes.back() ^= std::byte{4};
    EXPECT_FALSE(replicas_agree(block.views()));
    bytes.back() ^= std::byte{4};
  }
}

TEST(Checksum, what_another_side_holds_more_of_does_not_map) {
  const ContentSpec spec = {.layers = 2, .kv_heads = 4, .head_size = 5};
  const ShardedBlock whole(spec, 2, TokenOrder::kTokenHead);
  const std::span<const BlockLayout> half = std::span(whole.layouts).first(1);
  EXPECT_TRUE(maps(half, whole.layouts));
  EXPECT_FALSE(maps(whole.layouts, half));
  std::vector<BlockLayout> other = whole.layouts;
  other[1].first_layer = 1;
  EXPECT_FALSE(maps(other, whole.layouts));
  other = whole.layouts;
  other[1].vector_bytes *= 2;
  EXPECT_FALSE(maps(other, whole.layouts));
}

TEST(Checksum, changes_with_any_bit_of_the_block_and_none_of_its_neighbours) {
  for (const BlockForm form : {BlockForm::kDiscrete, BlockForm::kAggregated}) {
    Segment segment(kTiny, form, 1);
    const uint64_t before = segment.sum(2);
    size_t changed = 0;
    for (std::byte& byte : segment.bytes) {
      byte ^= std::byte{4};
      if (segment.sum(2) != before) ++changed;
      byte ^= std::byte{4};
    }
    EXPECT_EQ(changed, segment.layout.block_bytes);
  }
}

TEST(Checksum, changes_when_two_pieces_trade_places) {
  Segment segment(kSpec, BlockForm::kDiscrete, 1);
  const uint64_t before = segment.sum(0);
  std::byte* first = segment.bytes.data() + segment.layout.piece_offset(0, 0, 0);
  std::byte* second = segment.bytes.data() + segment.layout.piece_offset(0, 0, 1);
  std::swap_ranges(first, first + segment.layout.piece_bytes, second);
  EXPECT_NE(segment.sum(0), before);
}

TEST(Verify, words_go_there_and_back) {
  for (const Verify verify : {Verify::kOff, Verify::kSampled, Verify::kAlways}) {
    EXPECT_EQ(parse_verify(to_string(verify)).value(), verify);
  }
  EXPECT_EQ(parse_verify("sometimes").status().code(), StatusCode::kInvalidArgument);
}

TEST(Verify, off_picks_none_and_always_picks_all) {
  for (uint32_t i = 0; i < 100; ++i) {
    EXPECT_FALSE(picks(Verify::kOff, i, i));
    EXPECT_TRUE(picks(Verify::kAlways, i, i));
  }
}

TEST(Verify, sampled_picks_about_one_in_64_along_both_words) {
  int by_index = 0;
  int by_generation = 0;
  for (uint32_t i = 0; i < 64000; ++i) {
    by_index += picks(Verify::kSampled, i, 1);
    by_generation += picks(Verify::kSampled, 1, i);
  }
  EXPECT_NEAR(by_index, 1000, 150);
  EXPECT_NEAR(by_generation, 1000, 150);
}

}  // namespace
}  // namespace mempool
