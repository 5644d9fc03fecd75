// SPDX-License-Identifier: Apache-2.0
// Tests where the blocks of a pool with several shards lie.
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <vector>

#include "core/block_pool.h"

namespace mempool {
namespace {

TEST(BlockPoolShards, a_block_lies_in_every_shard_apart_from_all_others) {
  PoolOptions options;
  options.shape = {.layers = 2, .kv_heads = 4, .head_size = 8};
  options.shards = 4;
  options.segment_blocks = {16, 8};
  const auto pool = BlockPool::create(options, 1).value();
  EXPECT_EQ(pool->shards(), 4u);
  EXPECT_EQ(pool->blocks(), 24u);
  EXPECT_EQ(pool->block_bytes(), 2u * 2 * 4 * 8 * 2 * 16) << "of all shards together";
  ASSERT_EQ(pool->segments().all().size(), 8u);
  std::set<std::byte*> pieces;
  for (uint32_t index = 0; index < 24; ++index) {
    const std::vector<BlockView> views = pool->views(index);
    ASSERT_EQ(views.size(), 4u);
    for (uint32_t shard = 0; shard < 4; ++shard) {
      const PoolSegment& segment = *pool->segments().all()[2 * shard + (index < 16 ? 0 : 1)];
      EXPECT_EQ(segment.shard, shard);
      EXPECT_EQ(segment.layout.first_head, shard);
      EXPECT_EQ(views[shard].segment, segment.memory.data);
      EXPECT_EQ(views[shard].block, index - segment.first_block);
      pieces.insert(views[shard].piece(1, 1));
    }
  }
  EXPECT_EQ(pieces.size(), 24u * 4);
  EXPECT_TRUE(pool->audit().ok());
}

TEST(BlockPoolShards, heads_that_do_not_divide_make_no_pool) {
  PoolOptions options;
  options.shape = {.layers = 2, .kv_heads = 4, .head_size = 8};
  options.shards = 3;
  options.segment_blocks = {16};
  const Status refused = BlockPool::create(options, 1).status();
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(refused.message(),
            "4 KV heads do not divide over 3 shards: one number must be a multiple of the other");
}

}  // namespace
}  // namespace mempool
