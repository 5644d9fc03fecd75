// SPDX-License-Identifier: Apache-2.0
// Tests that a block's sum depends on its bytes and not on how they lie.
#include "core/checksum.h"

#include <gtest/gtest.h>

#include <algorithm>
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
  uint64_t sum(uint32_t block) const { return block_checksum(layout, bytes.data(), block); }
};

const ContentSpec kSpec = {.layers = 3, .kv_heads = 2, .head_size = 40};
const ContentSpec kTiny = {.layers = 2, .kv_heads = 1, .head_size = 1, .tokens_per_block = 1};
const ContentSpec kMla = {.layers = 3, .kv_heads = 1, .mla_rank = 24};

TEST(Checksum, is_equal_for_discrete_and_aggregated_copies) {
  for (const ContentSpec& spec : {kSpec, kTiny, kMla}) {
    const Segment discrete(spec, BlockForm::kDiscrete, 1);
    const Segment aggregated(spec, BlockForm::kAggregated, 1);
    for (uint32_t block = 0; block < kBlocks; ++block) {
      EXPECT_EQ(discrete.sum(block), aggregated.sum(block));
    }
  }
}

TEST(Checksum, as_another_side_lays_it_out_is_that_sides_own) {
  const Segment here(kSpec, BlockForm::kDiscrete, 1);
  Placement other;
  other.order = TokenOrder::kHeadToken;
  const BlockLayout there = make_layout(kSpec, other, kBlocks).value();
  EXPECT_FALSE(same_sums(here.layout, there));
  std::vector<std::byte> bytes(there.block_bytes * kBlocks);
  for (uint32_t layer = 0; layer < there.layers; ++layer) {
    for (uint32_t part = 0; part < there.parts; ++part) {
      for (uint32_t token = 0; token < there.tokens; ++token) {
        for (uint32_t head = 0; head < there.heads; ++head) {
          const std::byte* from = here.bytes.data() + here.layout.piece_offset(1, layer, part) +
                                  here.layout.vector_offset(token, head);
          std::copy_n(
              from, here.layout.vector_bytes,
              bytes.data() + there.piece_offset(1, layer, part) + there.vector_offset(token, head));
        }
      }
    }
  }
  const uint64_t sum = block_checksum_as(there, here.layout, here.bytes.data(), 1);
  EXPECT_EQ(sum, block_checksum(there, bytes.data(), 1));
  EXPECT_NE(sum, here.sum(1));
}

TEST(Checksum, as_its_own_layout_is_its_own_sum) {
  const Segment segment(kSpec, BlockForm::kDiscrete, 1);
  EXPECT_TRUE(same_sums(segment.layout, segment.layout));
  EXPECT_EQ(block_checksum_as(segment.layout, segment.layout, segment.bytes.data(), 2),
            segment.sum(2));
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
