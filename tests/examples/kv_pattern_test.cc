// SPDX-License-Identifier: Apache-2.0
// Owns the tests of the bytes that stand for KV: no wrong byte, token, layer, part or head passes.
#include "examples/demo/kv_pattern.h"

#include <algorithm>
#include <vector>

#include <gtest/gtest.h>

namespace mempool::demo {
namespace {

constexpr uint32_t kLayers = 2;
constexpr uint32_t kParts = 2;

ContentSpec tiny() {
  ContentSpec spec;
  spec.model = "tiny";
  spec.layers = kLayers;
  spec.kv_heads = 3;
  spec.head_size = 8;
  spec.tokens_per_block = 4;
  return spec;
}

BlockLayout layout_of(TokenOrder order) {
  Placement placement;
  placement.order = order;
  return make_layout(tiny(), placement, 1).value();
}

using Piece = std::vector<std::byte>;

Piece filled(const BlockLayout& layout, uint32_t layer, uint32_t part,
             const std::vector<uint64_t>& prefixes) {
  Piece piece(layout.piece_bytes);
  fill_piece(layout, layer, part, prefixes, piece.data());
  return piece;
}

class KvPattern : public testing::TestWithParam<TokenOrder> {
 protected:
  const BlockLayout layout_ = layout_of(GetParam());
  const std::vector<uint64_t> prefixes_ = prefix_hashes(7, std::vector<TokenId>{1, 2, 3, 4});
};

TEST_P(KvPattern, what_was_filled_is_right) {
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    for (uint32_t part = 0; part < kParts; ++part) {
      const Piece piece = filled(layout_, layer, part, prefixes_);
      EXPECT_EQ(find_wrong_vector(layout_, layer, part, prefixes_, piece.data()), std::nullopt);
    }
  }
}

TEST_P(KvPattern, any_one_wrong_byte_is_found_in_its_vector) {
  Piece piece = filled(layout_, 1, 0, prefixes_);
  for (uint32_t token = 0; token < layout_.tokens; ++token) {
    for (uint32_t head = 0; head < layout_.heads; ++head) {
      for (uint64_t i = 0; i < layout_.vector_bytes; ++i) {
        std::byte& byte = piece[layout_.vector_offset(token, head) + i];
        byte ^= std::byte{0x80};
        EXPECT_EQ(find_wrong_vector(layout_, 1, 0, prefixes_, piece.data()),
                  (VectorPlace{token, head}));
        byte ^= std::byte{0x80};
      }
    }
  }
}

TEST_P(KvPattern, another_layer_or_part_is_found) {
  const Piece piece = filled(layout_, 0, 1, prefixes_);
  EXPECT_NE(find_wrong_vector(layout_, 1, 1, prefixes_, piece.data()), std::nullopt);
  EXPECT_NE(find_wrong_vector(layout_, 0, 0, prefixes_, piece.data()), std::nullopt);
  EXPECT_NE(find_wrong_vector(layout_, 1, 0, prefixes_, piece.data()), std::nullopt);
}

TEST_P(KvPattern, swapped_vectors_of_a_piece_are_found) {
  const Piece right = filled(layout_, 0, 0, prefixes_);
  for (uint64_t from = 0; from < right.size(); from += layout_.vector_bytes) {
    for (uint64_t to = from + layout_.vector_bytes; to < right.size(); to += layout_.vector_bytes) {
      Piece piece = right;
      std::swap_ranges(piece.begin() + static_cast<ptrdiff_t>(from),
                       piece.begin() + static_cast<ptrdiff_t>(from + layout_.vector_bytes),
                       piece.begin() + static_cast<ptrdiff_t>(to));
      EXPECT_NE(find_wrong_vector(layout_, 0, 0, prefixes_, piece.data()), std::nullopt);
    }
  }
}

TEST_P(KvPattern, the_block_of_another_prefix_is_found_though_its_tokens_are_the_same) {
  const std::vector<uint64_t> prompt =
      prefix_hashes(7, std::vector<TokenId>{1, 2, 3, 4, 1, 2, 3, 4});
  const std::vector<uint64_t> second(prompt.begin() + 4, prompt.end());
  const Piece piece = filled(layout_, 0, 0, second);
  EXPECT_NE(find_wrong_vector(layout_, 0, 0, prefixes_, piece.data()), std::nullopt);
}

TEST_P(KvPattern, a_partial_block_is_filled_and_checked_up_to_its_last_token) {
  const std::vector<uint64_t> partial(prefixes_.begin(), prefixes_.begin() + 3);
  Piece piece = filled(layout_, 0, 0, partial);
  for (uint32_t head = 0; head < layout_.heads; ++head) {
    const auto begin = piece.begin() + static_cast<ptrdiff_t>(layout_.vector_offset(3, head));
    EXPECT_TRUE(std::all_of(begin, begin + static_cast<ptrdiff_t>(layout_.vector_bytes),
                            [](std::byte byte) { return byte == std::byte{0}; }));
    *begin = std::byte{1};
  }
  EXPECT_EQ(find_wrong_vector(layout_, 0, 0, partial, piece.data()), std::nullopt);
  piece[layout_.vector_offset(2, 2)] ^= std::byte{1};
  EXPECT_EQ(find_wrong_vector(layout_, 0, 0, partial, piece.data()), (VectorPlace{2, 2}));
}

INSTANTIATE_TEST_SUITE_P(Orders, KvPattern,
                         testing::Values(TokenOrder::kTokenHead, TokenOrder::kHeadToken),
                         [](const auto& order) {
                           return order.param == TokenOrder::kTokenHead ? "token_head"
                                                                        : "head_token";
                         });

TEST(PrefixHashes, depend_on_the_content_and_on_every_token_before) {
  const std::vector<TokenId> tokens = {5, 6, 7};
  const std::vector<uint64_t> hashes = prefix_hashes(1, tokens);
  EXPECT_EQ(prefix_hashes(1, tokens), hashes);
  EXPECT_EQ(prefix_hashes(1, std::vector<TokenId>{5, 6})[1], hashes[1]);
  EXPECT_NE(prefix_hashes(2, tokens)[0], hashes[0]);
  EXPECT_NE(prefix_hashes(1, std::vector<TokenId>{4, 6, 7})[2], hashes[2]);
  EXPECT_NE(prefix_hashes(1, std::vector<TokenId>{6, 5, 7})[2], hashes[2]);
}

}  // namespace
}  // namespace mempool::demo
