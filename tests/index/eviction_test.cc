// SPDX-License-Identifier: Apache-2.0
// Tests what evict() takes and what it must leave, and the names of the policies.
#include <gmock/gmock.h>

#include "index/eviction_policy.h"
#include "tests/index/index_fixture.h"

namespace mempool {
namespace {

using testing::HasSubstr;

using EvictionTest = IndexTest;

TEST_F(EvictionTest, least_recently_used_prompt_goes_first) {
  insert({1, 1, 2, 2});
  insert({3, 3, 4, 4});
  insert({5, 5, 6, 6});
  touch({1, 1, 2, 2});
  EXPECT_EQ(index_.evict(2), 2u);
  EXPECT_EQ(held_tokens({3, 3, 4, 4}), 0u);
  EXPECT_EQ(index_.evict(2), 2u);
  EXPECT_EQ(held_tokens({5, 5, 6, 6}), 0u);
  EXPECT_EQ(held_tokens({1, 1, 2, 2}), 4u);
}

TEST_F(EvictionTest, prompt_leaves_from_its_end) {
  insert({1, 1, 2, 2, 3, 3});
  EXPECT_EQ(index_.evict(1), 1u);
  EXPECT_EQ(held_tokens({1, 1, 2, 2, 3, 3}), 4u);
  EXPECT_EQ(index_.evict(1), 1u);
  EXPECT_EQ(held_tokens({1, 1, 2, 2, 3, 3}), 2u);
}

TEST_F(EvictionTest, shared_blocks_stay_while_something_continues_them) {
  insert({1, 1, 2, 2});
  insert({1, 1, 3, 3});
  EXPECT_EQ(index_.evict(1), 1u);
  EXPECT_EQ(held_tokens({1, 1, 2, 2}), 2u);
  EXPECT_EQ(held_tokens({1, 1, 3, 3}), 4u);
  EXPECT_EQ(index_.evict(5), 2u);
  EXPECT_EQ(index_.blocks(), 0u);
  EXPECT_EQ(pool_->free_blocks(), kPoolBlocks);
}

TEST_F(EvictionTest, use_of_a_prefix_keeps_the_prefix_and_not_its_end) {
  insert({1, 1, 2, 2});
  insert({3, 3});
  touch({1, 1});
  EXPECT_EQ(index_.evict(2), 2u);
  EXPECT_EQ(held_tokens({1, 1, 2, 2}), 2u);
  EXPECT_EQ(held_tokens({3, 3}), 0u);
}

TEST_F(EvictionTest, inserting_a_longer_prompt_uses_its_prefix) {
  insert({1, 1});
  insert({2, 2});
  insert({1, 1, 3, 3});
  EXPECT_EQ(index_.evict(1), 1u);
  EXPECT_EQ(held_tokens({2, 2}), 0u);
}

TEST_F(EvictionTest, refused_insert_uses_nothing) {
  insert({1, 1});
  insert({2, 2});
  const std::vector<BlockAddress> foreign = alloc(1, kPeer);
  EXPECT_FALSE(index_.insert(kCallerSession, prompt({1, 1}), foreign).ok());
  EXPECT_EQ(index_.evict(1), 1u);
  EXPECT_EQ(held_tokens({1, 1}), 0u);
}

TEST_F(EvictionTest, pinned_block_is_never_taken) {
  insert({1, 1, 2, 2});
  insert({3, 3});
  const auto pinned = match({1, 1, 2, 2}, kPeer);
  touch({3, 3});
  EXPECT_EQ(index_.evict(10), 1u);  // the oldest is pinned, the next oldest is not
  EXPECT_EQ(held_tokens({1, 1, 2, 2}), 4u);
  unpin(pinned, kPeer);
  EXPECT_EQ(index_.evict(10), 2u);  // and has its turn again
}

TEST_F(EvictionTest, pinned_prefix_stays_when_its_end_goes) {
  insert({1, 1, 2, 2, 3, 3});
  const auto pinned = match({1, 1});
  EXPECT_EQ(index_.evict(10), 2u);
  EXPECT_EQ(held_tokens({1, 1, 2, 2, 3, 3}), 2u);
  unpin(pinned);
}

TEST_F(EvictionTest, pinned_end_keeps_the_blocks_before_it) {
  insert({1, 1, 2, 2});
  const auto blocks = match({1, 1, 2, 2});
  unpin({blocks[0]});
  EXPECT_EQ(index_.evict(10), 0u);
  EXPECT_EQ(held_tokens({1, 1, 2, 2}), 4u);
}

TEST_F(EvictionTest, evicted_address_is_stale) {
  const auto blocks = insert_pinned({1, 1});
  unpin(blocks);
  EXPECT_EQ(index_.evict(1), 1u);
  EXPECT_EQ(pool_->check(blocks[0]).code(), StatusCode::kStale);
}

TEST_F(EvictionTest, empty_index_has_nothing_to_evict) {
  EXPECT_EQ(index_.evict(3), 0u);
  insert({1, 1});
  EXPECT_EQ(index_.evict(0), 0u);
  EXPECT_EQ(index_.blocks(), 1u);
}

/// Ranks by hits alone, so that most blocks are equal. Thread: confined.
class FewestHits final : public EvictionPolicy {
 public:
  uint64_t rank(const BlockUse& use) const override { return use.hits; }
};

TEST(Eviction, policy_decides_the_order_and_equals_all_have_their_turn) {
  const auto pool = test_pool();
  LocalIndex index(*pool, std::make_unique<FewestHits>());
  const Content content = test_content("one");
  const Tokens favourite = {1, 1};
  std::vector<BlockAddress> blocks;
  ASSERT_TRUE(pool->alloc(kCallerSession, 7, BlockState::kWriting, blocks).ok());
  ASSERT_TRUE(index.insert(kCallerSession, {content, favourite}, std::span(blocks).first(1)).ok());
  for (uint32_t i = 0; i < 3; ++i) {
    const Tokens tokens = {10 + i, 0, 20 + i, 0};
    const auto pair = std::span(blocks).subspan(1 + 2 * i, 2);
    ASSERT_TRUE(index.insert(kCallerSession, {content, tokens}, pair).ok());
  }
  std::vector<BlockAddress> matched;
  index.match(kCallerSession, {content, favourite}, matched);
  ASSERT_TRUE(pool->unpin(kCallerSession, matched).ok());
  ASSERT_TRUE(pool->unpin(kCallerSession, blocks).ok());
  EXPECT_EQ(index.evict(6), 6u);
  EXPECT_EQ(index.peek({content, favourite}), 2u);
  EXPECT_EQ(index.audit().to_string(), "OK");
}

TEST(EvictionPolicy, unknown_name_is_refused_with_the_names_there_are) {
  for (const char* name : {"lru", "s3fifo", "lfu", "ttl"}) {
    EXPECT_TRUE(make_eviction_policy(name).ok()) << name;
  }
  const Status status = make_eviction_policy("newest").status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("lru, s3fifo, lfu, ttl"));
}

}  // namespace
}  // namespace mempool
