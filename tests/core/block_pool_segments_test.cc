// SPDX-License-Identifier: Apache-2.0
// Tests the segments that come and go while a pool is in use.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "core/block_pool.h"

namespace mempool {
namespace {

constexpr SessionId kPeer = 7;

class BlockPoolSegments : public testing::Test {
 protected:
  void SetUp() override {
    PoolOptions options;
    options.shape = {.layers = 2, .kv_heads = 4, .head_size = 8};
    options.shards = 2;
    options.segment_blocks = {8};
    options.max_blocks = 24;
    pool_ = BlockPool::create(options, 1).value();
  }
  void TearDown() override { EXPECT_EQ(pool_->audit().status().to_string(), "OK"); }

  uint32_t add(uint32_t blocks) {
    return pool_->add_segment(pool_->make_segment(blocks).value()).value();
  }
  NewSegment lent(uint32_t blocks) {
    NewSegment segment = pool_->make_segment(blocks).value();
    segment.adopted = true;
    return segment;
  }
  std::vector<BlockAddress> alloc(size_t count, SessionId session = kCallerSession) {
    std::vector<BlockAddress> out;
    const Status status = pool_->alloc(session, count, BlockState::kWriting, out);
    EXPECT_TRUE(status.ok()) << status.to_string();
    return out;
  }
  std::vector<BlockAddress> claim(std::vector<uint32_t> indices) {
    std::vector<BlockAddress> out;
    const Status status = pool_->claim(kPeer, indices, out);
    EXPECT_TRUE(status.ok()) << status.to_string();
    return out;
  }

  std::unique_ptr<BlockPool> pool_;
};

TEST_F(BlockPoolSegments, blocks_of_a_segment_are_used_from_its_opening_on) {
  const uint32_t first = add(8);
  EXPECT_EQ(first, 8u);
  EXPECT_EQ(pool_->blocks(), 8u) << "those of a segment that is not open do not count";
  EXPECT_EQ(pool_->free_blocks(), 8u);
  EXPECT_EQ(pool_->audit().status().to_string(), "OK");
  pool_->open_segment(first);
  EXPECT_EQ(pool_->blocks(), 16u);
  const std::vector<BlockAddress> all = alloc(16);
  for (const BlockAddress& block : all) {
    for (uint32_t shard = 0; shard < 2; ++shard) {
      const BlockView view = pool_->view(block.index(), shard);
      const PoolSegment& segment =
          *pool_->segments().all()[2 * shard + (block.index() < first ? 0 : 1)];
      EXPECT_EQ(segment.shard, shard);
      EXPECT_EQ(view.segment, segment.memory.data);
      EXPECT_EQ(view.block, block.index() - segment.first_block);
    }
  }
}

TEST_F(BlockPoolSegments, a_view_outlives_the_table_it_came_from) {
  const BlockAddress block = alloc(1)[0];
  const BlockView before = pool_->view(block.index());
  for (int round = 0; round < 100; ++round) {
    const uint32_t first = add(8);
    pool_->drop_segment(first);
  }
  EXPECT_EQ(before.layout->piece_bytes, pool_->layouts()[0].piece_bytes);
  EXPECT_EQ(pool_->view(block.index()).segment, before.segment);
}

TEST_F(BlockPoolSegments, a_closed_segment_is_dropped_when_its_last_block_is_freed) {
  const uint32_t first = add(4);
  pool_->open_segment(first);
  const std::vector<BlockAddress> all = alloc(12);
  pool_->close_segment(first);
  EXPECT_EQ(pool_->present(first), 4u);
  EXPECT_EQ(pool_->blocks(), 12u) << "what is in use is there";
  ASSERT_TRUE(pool_->free(kCallerSession, all).ok());
  EXPECT_EQ(pool_->present(first), 0u);
  EXPECT_EQ(pool_->blocks(), 8u);
  EXPECT_EQ(pool_->free_blocks(), 8u) << "none of the closed segment is given out again";
  pool_->drop_segment(first);
  EXPECT_EQ(pool_->check(all.back()).code(), StatusCode::kStale);
}

TEST_F(BlockPoolSegments,
       the_place_of_a_dropped_segment_is_given_again_and_its_addresses_are_stale) {
  const uint32_t first = add(8);
  pool_->open_segment(first);
  const std::vector<BlockAddress> all = alloc(16);
  ASSERT_TRUE(pool_->free(kCallerSession, all).ok());
  pool_->close_segment(first);
  const uint32_t region = pool_->segments().all()[1]->region;
  pool_->drop_segment(first);
  EXPECT_EQ(pool_->segments().find_region(region), nullptr);
  ASSERT_EQ(add(8), first);
  pool_->open_segment(first);
  EXPECT_NE(pool_->segments().all()[1]->region, region) << "a region's name is never given twice";
  (void)alloc(16);
  for (const BlockAddress& block : all) {
    EXPECT_EQ(pool_->check(block).code(), StatusCode::kStale) << to_string(block);
  }
}

TEST_F(BlockPoolSegments, a_closed_segment_that_is_opened_again_has_its_free_blocks_back) {
  const uint32_t first = add(4);
  pool_->open_segment(first);
  const std::vector<BlockAddress> all = alloc(12);
  ASSERT_TRUE(pool_->free(kCallerSession, std::span(all).first(10)).ok());
  pool_->close_segment(first);
  EXPECT_LE(pool_->free_blocks(), 8u);
  pool_->open_segment(first);
  EXPECT_EQ(pool_->free_blocks(), 10u);
  EXPECT_EQ(pool_->blocks(), 12u);
}

TEST_F(BlockPoolSegments, published_blocks_of_a_closed_segment_make_no_room) {
  const uint32_t first = add(4);
  pool_->open_segment(first);
  const std::vector<BlockAddress> all = alloc(12);
  for (const BlockAddress& block : all) {
    pool_->seal(block.index(), std::nullopt);
    pool_->publish(block.index());
  }
  ASSERT_TRUE(pool_->unpin(kCallerSession, all).ok());
  EXPECT_EQ(pool_->evictable_blocks(), 12u);
  pool_->close_segment(first);
  EXPECT_EQ(pool_->evictable_blocks(), 8u);
  pool_->unpublish(first);
  EXPECT_EQ(pool_->state(first), BlockState::kAbsent);
  EXPECT_EQ(pool_->present(first), 3u);
}

TEST_F(BlockPoolSegments, more_than_the_room_for_indices_is_refused) {
  (void)add(8);
  Result<uint32_t> more = pool_->add_segment(pool_->make_segment(9).value());
  EXPECT_EQ(more.status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(more.status().message(),
            "9 more blocks behind 16 are more than the 24 that the pool may have "
            "(pool.max_blocks)");
}

TEST_F(BlockPoolSegments, adopted_blocks_are_given_to_nobody_but_who_claims_them) {
  const uint32_t first = pool_->add_segment(lent(4)).value();
  pool_->open_segment(first);
  EXPECT_EQ(pool_->blocks(), 12u);
  EXPECT_EQ(pool_->free_blocks(), 8u);
  std::vector<BlockAddress> out;
  EXPECT_EQ(pool_->alloc(kCallerSession, 9, BlockState::kWriting, out).code(),
            StatusCode::kResourceExhausted);
  const std::vector<BlockAddress> claimed = claim({first + 1, first + 3});
  EXPECT_EQ(claimed[1].index(), first + 3);
  EXPECT_EQ(pool_->state(first + 1), BlockState::kWriting);
  ASSERT_TRUE(pool_->free(kPeer, claimed).ok());
  EXPECT_EQ(pool_->state(first + 1), BlockState::kUnclaimed);
  EXPECT_EQ(pool_->check(claimed[0]).code(), StatusCode::kStale);
  EXPECT_NE(claim({first + 1})[0], claimed[0]) << "the generation has risen";
}

TEST_F(BlockPoolSegments, a_claim_takes_all_of_its_blocks_or_none) {
  const uint32_t first = pool_->add_segment(lent(4)).value();
  pool_->open_segment(first);
  (void)claim({first + 2});
  std::vector<BlockAddress> out;
  const uint32_t taken[] = {first, first + 2};
  Status refused = pool_->claim(kCallerSession, taken, out);
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(refused.message(), "block 10 of the host pool cannot be claimed: writing");
  const uint32_t twice[] = {first, first};
  refused = pool_->claim(kCallerSession, twice, out);
  EXPECT_EQ(refused.message(), "block 8 of the host pool cannot be claimed: it is named twice");
  const uint32_t common[] = {0};
  EXPECT_EQ(pool_->claim(kCallerSession, common, out).code(), StatusCode::kResourceExhausted);
  const uint32_t outside[] = {99};
  EXPECT_EQ(pool_->claim(kCallerSession, outside, out).code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(out.empty());
  EXPECT_EQ(pool_->state(first), BlockState::kUnclaimed);
}

}  // namespace
}  // namespace mempool
