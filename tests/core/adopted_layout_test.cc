// SPDX-License-Identifier: Apache-2.0
// Tests which strides of an engine's memory are taken.
#include "core/adopted_layout.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace mempool {
namespace {

constexpr uint32_t kBlocks = 4;

BlockLayout own_layout() {
  const ContentSpec spec{.layers = 3, .kv_heads = 2, .head_size = 8, .tokens_per_block = 4};
  return make_layout(spec, {}, 16).value();  // pieces of 128 bytes, 3 layers of 2 parts
}

std::string complaint(uint64_t block, uint64_t layer, uint64_t part, uint64_t bytes,
                      uint32_t blocks = kBlocks) {
  static std::byte memory{};
  const AdoptedMemory given{&memory, bytes, -1, block, layer, part};
  return std::string(adopted_layout(own_layout(), given, blocks).status().message());
}

TEST(AdoptedLayout, nested_strides_in_every_order_are_taken) {
  EXPECT_EQ(complaint(128, 1024, 512, 3072), "");
  EXPECT_EQ(complaint(256, 1024, 128, 3072), "");
  EXPECT_EQ(complaint(768, 256, 128, 3072), "");
  EXPECT_EQ(complaint(768, 128, 384, 3072), "");
  EXPECT_EQ(complaint(1000, 300, 140, 3868), "") << "with gaps inside of a block";
}

TEST(AdoptedLayout, strides_that_overlap_are_refused_by_name) {
  EXPECT_EQ(complaint(64, 1024, 512, 4096),
            "block_stride is 64, and what lies inside of it takes 128 bytes: they overlap");
  EXPECT_EQ(complaint(128, 512, 512, 4096),
            "part_stride is 512, and what lies inside of it takes 1536 bytes: they overlap");
  EXPECT_EQ(complaint(128, 1024, 256, 4096),
            "part_stride is 256, and what lies inside of it takes 512 bytes: they overlap");
  EXPECT_EQ(complaint(0, 0, 0, 4096),
            "block_stride is 0, and what lies inside of it takes 128 bytes: they overlap");
}

TEST(AdoptedLayout, memory_that_is_too_small_is_refused) {
  EXPECT_EQ(complaint(128, 1024, 512, 3071),
            "3 times a layer_stride of 1024 are more than the 3071 bytes of the memory");
  EXPECT_NE(complaint(128, UINT64_MAX / 2, 512, 3072), "");
  EXPECT_NE(complaint(128, 1024, 512, 100), "");
  EXPECT_NE(complaint(128, 1024, 512, 3072, 0), "");
}

TEST(AdoptedLayout, blocks_that_arithmetic_cannot_tell_apart_are_refused) {
  EXPECT_EQ(complaint(128, 1100, 512, 4096),
            "layer_stride is 1100, no multiple of the 512 bytes of 4 block_strides: peers that "
            "read tell blocks apart by that");
}

TEST(AdoptedLayout, an_axis_of_one_has_no_stride) {
  EXPECT_EQ(complaint(0, 256, 128, 768, 1), "") << "of one block";
}

}  // namespace
}  // namespace mempool
