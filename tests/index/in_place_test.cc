// SPDX-License-Identifier: Apache-2.0
// Tests the eviction of blocks published in an engine's own memory, which make no room in the pool.
#include "tests/index/index_fixture.h"

namespace mempool {
namespace {

constexpr uint32_t kLentBlocks = 8;
constexpr uint64_t kQuota = 4;
constexpr uint64_t kFloor = 4;

/// A pool of 24 blocks and 8 of an engine's, in which "acme" has a quota of 4 blocks, or a floor of
/// 4. Thread: confined.
class InPlaceTest : public testing::TestWithParam<std::string> {
 protected:
  ~InPlaceTest() override {
    EXPECT_EQ(index_.audit().to_string(), "OK");
    EXPECT_EQ(pool_->audit().status().to_string(), "OK");
  }

  static std::unique_ptr<BlockPool> pool_with_lent_blocks() {
    PoolOptions options;
    options.shape = {
        .layers = 1, .kv_heads = 1, .head_size = 2, .tokens_per_block = kTokensPerBlock};
    options.segment_blocks = {kPoolBlocks};
    options.max_blocks = kPoolBlocks + kLentBlocks;
    auto pool = BlockPool::create(options, /*incarnation=*/0x1f2e).value();
    NewSegment lent = pool->make_segment(kLentBlocks).value();
    lent.adopted = lent.in_place = true;
    pool->open_segment(pool->add_segment(std::move(lent)).value());
    return pool;
  }
  std::vector<BlockAddress> alloc(size_t count) {
    std::vector<BlockAddress> blocks;
    EXPECT_TRUE(pool_->alloc(kCallerSession, count, BlockState::kWriting, blocks).ok());
    return blocks;
  }
  std::vector<BlockAddress> claim(size_t count) {
    std::vector<BlockAddress> blocks;
    for (size_t i = 0; i < count; ++i) {
      const uint32_t index = kPoolBlocks + claimed_++;
      EXPECT_TRUE(pool_->claim(kCallerSession, std::span(&index, 1), blocks).ok());
    }
    return blocks;
  }
  /// Insert what the index lacks of a prompt, in blocks that `take` gives, and pin nothing.
  void insert(const Content& content, const Tokens& tokens,
              std::vector<BlockAddress> (InPlaceTest::*take)(size_t)) {
    std::vector<BlockAddress> blocks;
    index_.match(kCallerSession, {content, tokens}, blocks);
    const auto fresh = (this->*take)(tokens.size() / kTokensPerBlock - blocks.size());
    blocks.insert(blocks.end(), fresh.begin(), fresh.end());
    EXPECT_TRUE(index_.insert(kCallerSession, {content, tokens}, blocks).ok());
    EXPECT_TRUE(pool_->unpin(kCallerSession, blocks).ok());
  }
  void insert_in_place(const Content& content, const Tokens& tokens) {
    insert(content, tokens, &InPlaceTest::claim);
  }
  void insert_in_pool(const Content& content, const Tokens& tokens) {
    insert(content, tokens, &InPlaceTest::alloc);
  }
  /// Take all of the pool that is free.
  std::vector<BlockAddress> fill() { return alloc(pool_->free_blocks()); }
  bool holds(const Content& content, const Tokens& tokens) const {
    return index_.peek({content, tokens}) == tokens.size();
  }

  const Content acme_ = tenant_content("acme's");
  const Content safe_ = tenant_content("one with a floor");
  const Content other_ = tenant_content("");
  ManualClock clock_;
  uint32_t claimed_ = 0;
  std::unique_ptr<BlockPool> pool_ = pool_with_lent_blocks();
  LocalIndex index_{
      *pool_,
      make_eviction_policy(GetParam(), {.blocks = kPoolBlocks, .clock = &clock_}).value(),
      nullptr,
      nullptr,
      {{{"acme", acme_.tenant, kQuota, 0}, {"safe", safe_.tenant, 0, kFloor}}}};
};

TEST_P(InPlaceTest, what_leaves_a_quota_is_not_taken_for_room_in_the_pool) {
  insert_in_place(acme_, {1, 1});
  insert_in_place(acme_, {2, 2});
  insert_in_pool(acme_, {3, 3});
  insert_in_pool(acme_, {4, 4});
  insert_in_pool(other_, {5, 5});
  const auto rest = fill();
  ASSERT_TRUE(index_.make_room(2, acme_.tenant, 2).ok());
  EXPECT_EQ(pool_->free_blocks(), 2u);
  EXPECT_LE(index_.tenants().listed()[0].published + 2, kQuota);
  EXPECT_TRUE(pool_->unpin(kCallerSession, rest).ok());
}

TEST_P(InPlaceTest, it_stays_when_the_pool_needs_room) {
  insert_in_place(other_, {1, 1, 2, 2});
  insert_in_pool(other_, {3, 3});
  insert_in_pool(other_, {4, 4});
  EXPECT_EQ(index_.evict(kPoolBlocks), 2u);
  EXPECT_EQ(index_.evicted(), 2u);
  EXPECT_TRUE(holds(other_, {1, 1, 2, 2})) << "though it is older";
}

TEST_P(InPlaceTest, it_is_not_counted_as_room_in_the_pool) {
  insert_in_pool(other_, {1, 1});
  insert_in_place(other_, {2, 2, 3, 3, 4, 4});
  insert_in_pool(safe_, {5, 5, 6, 6, 7, 7, 8, 8});
  const auto rest = fill();
  EXPECT_TRUE(index_.make_room(2).ok());  // the pool's alloc says no
  EXPECT_EQ(index_.evicted(), 0u);
  EXPECT_TRUE(index_.make_room(1).ok());
  EXPECT_EQ(pool_->free_blocks(), 1u);
  EXPECT_EQ(index_.evicted(), 1u);
  EXPECT_TRUE(pool_->unpin(kCallerSession, rest).ok());
}

TEST_P(InPlaceTest, it_goes_where_it_continues_what_makes_room) {
  insert_in_pool(other_, {1, 1});
  insert_in_place(other_, {1, 1, 2, 2});
  insert_in_place(other_, {1, 1, 3, 3, 4, 4});
  const auto rest = fill();
  ASSERT_TRUE(index_.make_room(1).ok());
  EXPECT_EQ(pool_->free_blocks(), 1u);
  EXPECT_EQ(index_.blocks(), 0u);
  EXPECT_TRUE(pool_->unpin(kCallerSession, rest).ok());
}

TEST_P(InPlaceTest, it_stays_where_what_it_continues_is_in_use) {
  insert_in_pool(other_, {1, 1});
  insert_in_place(other_, {1, 1, 2, 2});
  insert_in_place(other_, {1, 1, 3, 3});
  std::vector<BlockAddress> pinned;
  index_.match(kCallerSession, {other_, Tokens{1, 1}}, pinned);
  EXPECT_EQ(index_.evict(1), 0u);
  EXPECT_EQ(index_.evicted(), 0u);
  EXPECT_TRUE(pool_->unpin(kCallerSession, pinned).ok());
}

INSTANTIATE_TEST_SUITE_P(Policy, InPlaceTest, testing::Values("lru", "lfu", "s3fifo", "ttl"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace mempool
