// SPDX-License-Identifier: Apache-2.0
// Tests the blocks that an engine lends to a peer's transfer.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "core/block_pool.h"

namespace mempool {
namespace {

constexpr SessionId kPeer = 2;
constexpr SessionId kEngine = kFirstEngineSession;

class BlockPoolLend : public testing::Test {
 protected:
  BlockPoolLend() {
    PoolOptions options;
    options.shape = {.layers = 1, .kv_heads = 1, .head_size = 8};
    options.segment_blocks = {4};
    pool_ = BlockPool::create(options, 1).value();
  }
  ~BlockPoolLend() override { EXPECT_TRUE(pool_->audit().ok()); }

  std::vector<BlockAddress> take(SessionId session, size_t count) {
    std::vector<BlockAddress> blocks;
    EXPECT_TRUE(pool_->alloc(session, count, BlockState::kWriting, blocks).ok());
    return blocks;
  }

  std::unique_ptr<BlockPool> pool_;
};

TEST_F(BlockPoolLend, a_lent_block_is_the_peers_and_its_engines) {
  for (const SessionId engine : {kCallerSession, kEngine}) {
    const auto blocks = take(engine, 2);
    ASSERT_TRUE(pool_->lend(kPeer, blocks).ok());
    EXPECT_EQ(pool_->state(blocks[0].index()), BlockState::kReserved);
    EXPECT_EQ(pool_->pins_of(kPeer, blocks[0].index()), 1u);
    EXPECT_EQ(pool_->pins_of(engine, blocks[0].index()), 1u);
    EXPECT_FALSE(pool_->free(engine, blocks).ok());
    EXPECT_FALSE(pool_->pin(engine, blocks).ok());
    ASSERT_TRUE(pool_->unpin(kPeer, blocks).ok());
    ASSERT_TRUE(pool_->unpin(engine, blocks).ok());
  }
  EXPECT_EQ(pool_->free_blocks(), 4u);
}

TEST_F(BlockPoolLend, only_what_one_engine_alone_is_filling_can_be_lent_all_or_none) {
  const auto mine = take(kCallerSession, 3);
  const auto others = take(kPeer, 1);
  ASSERT_TRUE(pool_->pin(kEngine, std::span(mine).subspan(1, 1)).ok());
  pool_->seal(mine[2].index(), std::nullopt);
  BlockAddress old = mine[0];
  old.generation -= 1;
  const auto lend = [&](const BlockAddress& second) {
    const BlockAddress list[] = {mine[0], second};
    return pool_->lend(kPeer, list).code();
  };
  EXPECT_EQ(lend(mine[1]), StatusCode::kInvalidArgument);    // two engines
  EXPECT_EQ(lend(mine[2]), StatusCode::kInvalidArgument);    // sealed
  EXPECT_EQ(lend(others[0]), StatusCode::kInvalidArgument);  // no engine
  EXPECT_EQ(lend(mine[0]), StatusCode::kInvalidArgument);    // twice
  EXPECT_EQ(lend(old), StatusCode::kStale);
  EXPECT_EQ(pool_->count(BlockState::kReserved), 0u);
}

}  // namespace
}  // namespace mempool
