// SPDX-License-Identifier: Apache-2.0
// Tests the strides of blocks against sizes worked out by hand and against a walk over every piece.
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "mempool/content.h"

namespace mempool {
namespace {

constexpr uint32_t kBlocks = 64;

ContentSpec llama_2_13b() {
  return {.model = "llama-2-13b", .layers = 40, .kv_heads = 40, .head_size = 128};
}

BlockLayout layout_of(const ContentSpec& spec, const Placement& placement,
                      uint32_t blocks = kBlocks) {
  Result<BlockLayout> layout = make_layout(spec, placement, blocks);
  EXPECT_TRUE(layout.ok()) << layout.status().to_string();
  return layout.value();
}

TEST(Layout, llama_2_13b_has_80_pieces_of_160_kib_a_block) {
  const BlockLayout layout = layout_of(llama_2_13b(), {.form = BlockForm::kDiscrete});
  EXPECT_EQ(layout.vector_bytes, 256u);
  EXPECT_EQ(layout.piece_bytes, 160u * 1024);
  EXPECT_EQ(layout.layers * layout.parts, 80u);
  EXPECT_EQ(layout.block_bytes, 80u * 160 * 1024);
  EXPECT_EQ(layout.block_stride, layout.piece_bytes);
  EXPECT_EQ(layout.part_stride, layout.piece_bytes * kBlocks);
  EXPECT_EQ(layout.layer_stride, layout.piece_bytes * kBlocks * 2);
}

TEST(Layout, aggregated_block_is_one_run) {
  const BlockLayout layout = layout_of(llama_2_13b(), {.form = BlockForm::kAggregated});
  EXPECT_EQ(layout.block_stride, layout.block_bytes);
  EXPECT_EQ(layout.layer_stride, 2u * 160 * 1024);
  EXPECT_EQ(layout.part_stride, 160u * 1024);
}

TEST(Layout, llama_3_8b_with_grouped_heads_has_2_mib_a_block) {
  const ContentSpec spec = {.layers = 32, .kv_heads = 8, .head_size = 128};
  const BlockLayout layout = layout_of(spec, {});
  EXPECT_EQ(layout.piece_bytes, 32u * 1024);
  EXPECT_EQ(layout.block_bytes, 2u * 1024 * 1024);
}

TEST(Layout, mla_has_one_part_with_a_vector_of_its_rank) {
  const ContentSpec spec = {
      .element = ElementType::kBfloat16, .layers = 61, .kv_heads = 1, .mla_rank = 576};
  const BlockLayout layout = layout_of(spec, {});
  EXPECT_EQ(layout.parts, 1u);
  EXPECT_EQ(layout.heads, 1u);
  EXPECT_EQ(layout.vector_bytes, 1152u);
  EXPECT_EQ(layout.piece_bytes, 16u * 1152);
  EXPECT_EQ(layout.block_bytes, 61u * 16 * 1152);
  EXPECT_EQ(layout.layer_stride, layout.part_stride);
}

TEST(Layout, orders_swap_tokens_and_heads_inside_a_piece) {
  const ContentSpec spec = {.layers = 1, .kv_heads = 8, .head_size = 128};
  const BlockLayout token_head = layout_of(spec, {.order = TokenOrder::kTokenHead});
  const BlockLayout head_token = layout_of(spec, {.order = TokenOrder::kHeadToken});
  EXPECT_EQ(token_head.vector_offset(3, 5), (3u * 8 + 5) * 256);
  EXPECT_EQ(head_token.vector_offset(3, 5), (5u * 16 + 3) * 256);
  EXPECT_EQ(token_head.vector_offset(15, 7) + 256, token_head.piece_bytes);
  EXPECT_EQ(head_token.vector_offset(15, 7) + 256, head_token.piece_bytes);
}

TEST(Layout, shard_holds_its_layers_and_heads_only) {
  const Placement placement = {.first_layer = 10, .layers = 30, .first_head = 20, .heads = 20};
  const BlockLayout layout = layout_of(llama_2_13b(), placement);
  EXPECT_EQ(layout.layers, 30u);
  EXPECT_EQ(layout.heads, 20u);
  EXPECT_EQ(layout.first_layer, 10u);
  EXPECT_EQ(layout.first_head, 20u);
  EXPECT_EQ(layout.piece_bytes, 80u * 1024);
  EXPECT_EQ(layout.block_bytes, 60u * 80 * 1024);
}

TEST(Layout, pieces_tile_the_segment_without_gap_or_overlap) {
  const ContentSpec with_heads = {.layers = 3, .kv_heads = 2, .head_size = 4};
  const ContentSpec mla = {.layers = 3, .kv_heads = 1, .mla_rank = 6};
  for (const ContentSpec& spec : {with_heads, mla}) {
    for (const BlockForm form : {BlockForm::kDiscrete, BlockForm::kAggregated}) {
      const BlockLayout layout = layout_of(spec, {.form = form}, 5);
      std::vector<int> covered(layout.block_bytes * 5);
      for (uint32_t block = 0; block < 5; ++block) {
        for (uint32_t layer = 0; layer < layout.layers; ++layer) {
          for (uint32_t part = 0; part < layout.parts; ++part) {
            const uint64_t first = layout.piece_offset(block, layer, part);
            for (uint64_t i = 0; i < layout.piece_bytes; ++i) ++covered.at(first + i);
          }
        }
      }
      EXPECT_EQ(covered, std::vector<int>(covered.size(), 1));
    }
  }
}

TEST(Layout, placement_beyond_the_content_is_refused) {
  const std::vector<Placement> bad = {
      {.first_layer = 1, .layers = 40},
      {.first_layer = 40, .layers = 1},
      {.first_layer = 1},
      {.layers = UINT32_MAX},
      {.first_head = 39, .heads = 2},
      {.first_head = UINT32_MAX, .heads = 1},
  };
  for (const Placement& placement : bad) {
    EXPECT_EQ(make_layout(llama_2_13b(), placement, kBlocks).status().code(),
              StatusCode::kInvalidArgument);
  }
}

TEST(Layout, sizes_that_overflow_are_refused) {
  const ContentSpec largest = {.element = ElementType::kFloat32,
                               .layers = 65536,
                               .kv_heads = 65536,
                               .head_size = 65536,
                               .tokens_per_block = 65536};
  ContentSpec one_layer = largest;  // 2^51 bytes a block
  one_layer.layers = 1;
  EXPECT_EQ(make_layout(largest, {}, 1).status().code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(make_layout(one_layer, {}, 4095).ok());
  EXPECT_EQ(make_layout(one_layer, {}, 4096).status().code(), StatusCode::kInvalidArgument)
      << "2^63 bytes are one more than an offset can name";
  EXPECT_EQ(make_layout(one_layer, {}, BlockAddress::kIndexMax + 1).status().code(),
            StatusCode::kInvalidArgument);
}

TEST(Layout, empty_segment_and_bad_content_are_refused) {
  EXPECT_EQ(make_layout(llama_2_13b(), {}, 0).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(make_layout(llama_2_13b(), {}, BlockAddress::kIndexMax + 2).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(make_layout(ContentSpec{}, {}, 1).status().code(), StatusCode::kInvalidArgument);
}

// ---- shards -----------------------------------------------------------------------------------

/// First head and number of heads of each shard.
std::vector<std::pair<uint32_t, uint32_t>> heads_of(const ContentSpec& spec, uint32_t shards,
                                                    bool replicated) {
  std::vector<std::pair<uint32_t, uint32_t>> heads;
  const auto placements = make_shards(spec, {}, shards);
  for (const Placement& shard : *placements) {
    heads.emplace_back(shard.first_head, shard.heads);
    EXPECT_EQ(shard.replicated, replicated);
    EXPECT_EQ(layout_of(spec, shard).replicated, replicated);
  }
  return heads;
}

using Heads = std::vector<std::pair<uint32_t, uint32_t>>;

TEST(MakeShards, heads_are_divided_in_rank_order) {
  const ContentSpec spec = {.layers = 1, .kv_heads = 8, .head_size = 128};
  EXPECT_EQ(heads_of(spec, 1, false), (Heads{{0, 8}}));
  EXPECT_EQ(heads_of(spec, 4, false), (Heads{{0, 2}, {2, 2}, {4, 2}, {6, 2}}));
  EXPECT_EQ(heads_of(spec, 8, false).back(), std::make_pair(7u, 1u));
}

TEST(MakeShards, fewer_heads_than_shards_lie_on_several) {
  const ContentSpec spec = {.layers = 1, .kv_heads = 2, .head_size = 128};
  EXPECT_EQ(heads_of(spec, 4, true), (Heads{{0, 1}, {0, 1}, {1, 1}, {1, 1}}));
  const ContentSpec mla = {.layers = 1, .kv_heads = 1, .mla_rank = 512};
  EXPECT_EQ(heads_of(mla, 3, true), (Heads{{0, 1}, {0, 1}, {0, 1}}));
  EXPECT_EQ(heads_of(mla, 1, false), (Heads{{0, 1}}));
}

TEST(MakeShards, form_and_order_are_those_of_all) {
  const Placement all = {.form = BlockForm::kAggregated, .order = TokenOrder::kHeadToken};
  const auto placements = make_shards(llama_2_13b(), all, 4);
  for (const Placement& shard : *placements) {
    EXPECT_EQ(shard.form, BlockForm::kAggregated);
    EXPECT_EQ(shard.order, TokenOrder::kHeadToken);
  }
}

TEST(MakeShards, what_does_not_divide_is_refused) {
  const ContentSpec spec = {.layers = 1, .kv_heads = 8, .head_size = 128};
  const auto refused = [&](const Placement& placement, uint32_t shards) {
    return make_shards(spec, placement, shards).status().code() == StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused({}, 0));
  EXPECT_TRUE(refused({}, 3));
  EXPECT_TRUE(refused({}, 12));
  EXPECT_TRUE(refused({}, kShardsMax + 8));
  EXPECT_TRUE(refused({.first_head = 4}, 2));
  EXPECT_TRUE(refused({.heads = 4}, 2));
  EXPECT_TRUE(refused({.replicated = true}, 2));
}

}  // namespace
}  // namespace mempool
