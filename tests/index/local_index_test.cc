// SPDX-License-Identifier: Apache-2.0
// Tests insert, match and erase: who owns which block afterwards, and every refusal.
#include "index/local_index.h"

#include <gmock/gmock.h>

#include "tests/index/index_fixture.h"

namespace mempool {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::IsEmpty;

using LocalIndexTest = IndexTest;

// ---- match -----------------------------------------------------------------------------------

TEST_F(LocalIndexTest, match_gives_the_longest_published_prefix_in_whole_blocks) {
  const auto blocks = insert_pinned({1, 2, 3, 4, 5, 6});
  EXPECT_EQ(match({1, 2, 3, 4, 5, 6, 7, 8}), blocks);
  EXPECT_THAT(match({1, 2, 3, 4, 5, 9}), ElementsAre(blocks[0], blocks[1]));
  EXPECT_THAT(match({1, 2, 3}), ElementsAre(blocks[0]));
  EXPECT_THAT(match({1}), IsEmpty());
  EXPECT_THAT(match({2, 1}), IsEmpty());
}

TEST_F(LocalIndexTest, match_appends_to_what_the_caller_has) {
  const auto blocks = insert_pinned({1, 2});
  std::vector<BlockAddress> out = {BlockAddress{}};
  EXPECT_EQ(index_.match(kCallerSession, prompt({1, 2}), out), 2u);
  EXPECT_THAT(out, ElementsAre(BlockAddress{}, blocks[0]));
}

TEST_F(LocalIndexTest, partial_last_block_is_ignored) {
  const auto blocks = alloc(1);
  EXPECT_TRUE(index_.insert(kCallerSession, prompt({1, 2, 3}), blocks).ok());
  EXPECT_EQ(index_.blocks(), 1u);
  EXPECT_EQ(held_tokens({1, 2, 3, 4}), 2u);
}

TEST_F(LocalIndexTest, another_content_never_matches) {
  insert_pinned({1, 2, 3, 4});
  std::vector<BlockAddress> out;
  EXPECT_EQ(index_.match(kCallerSession, {other_content_, Tokens{1, 2, 3, 4}}, out), 0u);
  EXPECT_EQ(index_.erase({other_content_, Tokens{1, 2}}), 0u);
  EXPECT_EQ(held_tokens({1, 2, 3, 4}), 4u);
}

TEST_F(LocalIndexTest, match_pins_for_its_session) {
  const auto blocks = insert_pinned({1, 2});
  match({1, 2}, kPeer);
  match({1, 2}, kPeer);
  EXPECT_EQ(pool_->pins_of(kPeer, blocks[0].index()), 2u);
  EXPECT_EQ(pool_->pins_of(kCallerSession, blocks[0].index()), 1u);
}

TEST_F(LocalIndexTest, peek_pins_nothing) {
  const auto blocks = insert_pinned({1, 2, 3, 4});
  EXPECT_EQ(held_tokens({1, 2, 3, 4, 5, 6}), 4u);
  EXPECT_EQ(pool_->pins(blocks[0].index()), 1u);
}

// ---- insert ----------------------------------------------------------------------------------

TEST_F(LocalIndexTest, inserted_blocks_are_published_and_stay_pinned_until_unpin) {
  const auto blocks = insert_pinned({1, 2, 3, 4});
  EXPECT_EQ(pool_->state(blocks[0].index()), BlockState::kPublished);
  EXPECT_EQ(pool_->pins(blocks[0].index()), 1u);
  unpin(blocks);
  EXPECT_EQ(match({1, 2, 3, 4}), blocks);
}

TEST_F(LocalIndexTest, blocks_a_transfer_reserved_can_be_inserted_by_its_session) {
  const auto reserved = alloc(1, kPeer, BlockState::kReserved);
  const auto sealed = alloc(1, kPeer, BlockState::kReserved);
  pool_->seal(sealed[0].index(), 99);
  EXPECT_TRUE(index_.insert(kPeer, prompt({1, 2, 3, 4}), std::vector{reserved[0], sealed[0]}).ok());
  EXPECT_THAT(match({1, 2, 3, 4}), ElementsAre(reserved[0], sealed[0]));
}

TEST_F(LocalIndexTest, a_block_is_published_with_the_seal_of_the_list_or_with_none) {
  const auto blocks = alloc(4);
  pool_->seal(blocks[2].index(), 33);
  pool_->seal(blocks[3].index(), 44);
  const std::vector<Seal> seals = {{.position = 2, .checksum = 3}, {.position = 0, .checksum = 1}};
  EXPECT_TRUE(index_.insert(kCallerSession, prompt({1, 2, 3, 4, 5, 6, 7, 8}), blocks, seals).ok());
  EXPECT_EQ(pool_->checksum(blocks[0].index()), 1u);
  EXPECT_EQ(pool_->checksum(blocks[1].index()), std::nullopt);
  EXPECT_EQ(pool_->checksum(blocks[2].index()), 3u);
  EXPECT_EQ(pool_->checksum(blocks[3].index()), std::nullopt);
}

TEST_F(LocalIndexTest, the_published_address_is_accepted_and_is_no_duplicate) {
  const auto blocks = insert_pinned({1, 2});
  unpin(blocks);
  auto longer = blocks;  // as another session's match has it; this one holds no pin
  longer.push_back(alloc(1)[0]);
  const auto outcome = index_.insert(kCallerSession, prompt({1, 2, 3, 4}), longer);
  ASSERT_TRUE(outcome.ok()) << outcome.status().to_string();
  EXPECT_THAT(outcome->duplicates, IsEmpty());
  EXPECT_EQ(outcome->serving, longer);
  EXPECT_EQ(match({1, 2, 3, 4}), longer);
}

TEST_F(LocalIndexTest, block_of_published_tokens_comes_back_as_a_duplicate) {
  const auto first = insert_pinned({1, 2, 3, 4});
  const auto second = alloc(3);
  const std::vector<Seal> seals = {{.position = 0, .checksum = 7}};
  const auto outcome = index_.insert(kCallerSession, prompt({1, 2, 3, 4, 5, 6}), second, seals);
  ASSERT_TRUE(outcome.ok()) << outcome.status().to_string();
  EXPECT_THAT(outcome->duplicates, ElementsAre(0, 1));
  EXPECT_THAT(outcome->serving, ElementsAre(first[0], first[1], second[2]));
  EXPECT_EQ(pool_->state(second[0].index()),
            BlockState::kWriting);  // as it was, still the caller's
  EXPECT_EQ(pool_->pins_of(kCallerSession, second[0].index()), 1u);
  EXPECT_TRUE(pool_->free(kCallerSession, std::span(second).first(2)).ok());
}

TEST_F(LocalIndexTest, prompts_share_their_common_blocks) {
  const auto first = insert_pinned({1, 2, 3, 4, 5, 6});
  const std::vector<BlockAddress> list = {first[0], alloc(1)[0]};
  EXPECT_TRUE(index_.insert(kCallerSession, prompt({1, 2, 9, 9}), list).ok());
  EXPECT_EQ(index_.blocks(), 4u);
  EXPECT_EQ(match({1, 2, 3, 4, 5, 6}), first);
  EXPECT_EQ(match({1, 2, 9, 9}), list);
}

TEST_F(LocalIndexTest, prompt_shorter_than_a_block_changes_nothing) {
  EXPECT_TRUE(index_.insert(kCallerSession, prompt({1}), {}).ok());
  EXPECT_TRUE(index_.insert(kCallerSession, prompt({}), {}).ok());
  EXPECT_EQ(index_.nodes(), 0u);
}

// ---- what insert refuses ---------------------------------------------------------------------

/// Inserts with a fault somewhere in the list, over one published prompt. Thread: confined.
class LocalIndexRefusal : public IndexTest {
 protected:
  void SetUp() override { published_ = insert_pinned({1, 2, 3, 4}); }

  void expect_refused(const Tokens& tokens, const std::vector<BlockAddress>& blocks,
                      StatusCode code, const char* words) {
    const uint64_t free = pool_->free_blocks();
    const auto outcome = index_.insert(kCallerSession, prompt(tokens), blocks);
    EXPECT_EQ(outcome.status().code(), code);
    EXPECT_THAT(std::string(outcome.status().message()), HasSubstr(words));
    EXPECT_EQ(index_.blocks(), 2u);
    EXPECT_EQ(pool_->free_blocks(), free);
    EXPECT_EQ(pool_->count(BlockState::kPrivate), 0u);
  }

  std::vector<BlockAddress> published_;
};

TEST_F(LocalIndexRefusal, wrong_count) {
  const auto blocks = alloc(2);
  expect_refused({7, 7, 7}, blocks, StatusCode::kInvalidArgument, "2 blocks for the 1 whole");
  expect_refused({7, 7, 7, 7, 7, 7}, blocks, StatusCode::kInvalidArgument, "give one for each");
}

TEST_F(LocalIndexRefusal, block_listed_twice) {
  const auto blocks = alloc(2);
  expect_refused({7, 7, 8, 8, 9, 9}, {blocks[0], blocks[1], blocks[0]},
                 StatusCode::kInvalidArgument, "block 2 of the inserted list");
  expect_refused({1, 2, 3, 4}, {blocks[0], blocks[0]}, StatusCode::kInvalidArgument,
                 "listed twice");
  // The refusals left no mark on the blocks.
  EXPECT_TRUE(index_.insert(kCallerSession, prompt({7, 7, 8, 8}), blocks).ok());
}

TEST_F(LocalIndexRefusal, block_of_another_session) {
  expect_refused({7, 7}, alloc(1, kPeer), StatusCode::kInvalidArgument, "not held by session 0");
}

TEST_F(LocalIndexRefusal, block_published_under_other_tokens) {
  const auto block = alloc(1)[0];
  expect_refused({7, 7, 8, 8}, {block, published_[0]}, StatusCode::kInvalidArgument,
                 "published under other tokens");
  expect_refused({1, 2, 3, 4}, {published_[1], published_[0]}, StatusCode::kInvalidArgument,
                 "published under other tokens");
}

TEST_F(LocalIndexRefusal, stale_block) {
  const auto blocks = alloc(2);
  EXPECT_TRUE(pool_->free(kCallerSession, std::span(blocks).last(1)).ok());
  expect_refused({7, 7, 8, 8}, blocks, StatusCode::kStale, "block 1 of the inserted list");
}

TEST_F(LocalIndexRefusal, stale_block_of_published_tokens) {
  const auto block = alloc(1);
  EXPECT_TRUE(pool_->free(kCallerSession, block).ok());
  expect_refused({1, 2}, block, StatusCode::kStale, "block 0 of the inserted list");
}

TEST_F(LocalIndexRefusal, block_of_another_life) {
  auto block = alloc(1)[0];
  block.incarnation ^= 1;
  expect_refused({7, 7}, {block}, StatusCode::kStale, "block 0 of the inserted list");
}

TEST_F(LocalIndexRefusal, address_past_the_pool) {
  auto block = alloc(1)[0];
  block.place += kPoolBlocks;
  expect_refused({7, 7}, {block}, StatusCode::kInvalidArgument, "block 0 of the inserted list");
}

// ---- erase -----------------------------------------------------------------------------------

TEST_F(LocalIndexTest, erase_removes_the_last_block_and_all_that_continues_it) {
  insert({1, 2, 3, 4, 5, 6});
  insert({1, 2, 3, 4, 7, 7, 8, 8});
  insert({1, 2, 9, 9});
  EXPECT_EQ(index_.erase(prompt({1, 2, 3, 4, 0})), 4u);
  EXPECT_EQ(held_tokens({1, 2, 3, 4, 5, 6}), 2u);
  EXPECT_EQ(held_tokens({1, 2, 9, 9}), 4u);
  EXPECT_EQ(pool_->free_blocks(), kPoolBlocks - 2);
}

TEST_F(LocalIndexTest, erase_of_a_prompt_not_wholly_held_removes_nothing) {
  insert({1, 2, 3, 4});
  EXPECT_EQ(index_.erase(prompt({1, 2, 3, 4, 5, 6})), 0u);
  EXPECT_EQ(index_.erase(prompt({1, 9})), 0u);
  EXPECT_EQ(index_.erase(prompt({1})), 0u);
  EXPECT_EQ(index_.erase(prompt({})), 0u);
  EXPECT_EQ(held_tokens({1, 2, 3, 4}), 4u);
}

TEST_F(LocalIndexTest, erased_block_that_is_pinned_becomes_private) {
  const auto blocks = insert_pinned({1, 2, 3, 4});
  unpin({blocks[1]});
  EXPECT_EQ(index_.erase(prompt({1, 2})), 2u);
  EXPECT_EQ(pool_->state(blocks[0].index()), BlockState::kPrivate);
  EXPECT_EQ(pool_->state(blocks[1].index()), BlockState::kFree);
  EXPECT_THAT(match({1, 2}), IsEmpty());
  EXPECT_TRUE(index_.insert(kCallerSession, prompt({8, 8}), std::vector{blocks[0]}).ok());
}

TEST_F(LocalIndexTest, erase_blocks_removes_one_and_all_that_continues_it) {
  const auto blocks = insert_pinned({1, 2, 3, 4, 5, 6});
  insert({1, 2, 3, 4, 7, 7});
  unpin(blocks);
  EXPECT_EQ(index_.erase_blocks({{blocks[1].index()}}), 3u);
  EXPECT_EQ(held_tokens({1, 2, 3, 4}), 2u);
  EXPECT_EQ(index_.erase_blocks({{blocks[1].index()}}), 0u);
}

// ---- what the audit finds --------------------------------------------------------------------

using LocalIndexAudit = IndexTest;

TEST_F(LocalIndexAudit, block_unpublished_behind_the_index) {
  const auto blocks = insert_pinned({1, 2});
  pool_->unpublish(blocks[0].index());
  EXPECT_THAT(index_.audit().to_string(), HasSubstr("not published"));
  pool_->publish(blocks[0].index());
}

TEST_F(LocalIndexAudit, block_published_behind_the_index) {
  const auto block = alloc(1)[0];
  pool_->seal(block.index(), std::nullopt);
  pool_->publish(block.index());
  EXPECT_THAT(index_.audit().to_string(), HasSubstr("1 published blocks, the index 0"));
  pool_->unpublish(block.index());
}

TEST_F(LocalIndexAudit, block_freed_behind_the_index) {
  auto pool = test_pool();
  LocalIndex index(*pool, lru());
  std::vector<BlockAddress> blocks;
  ASSERT_TRUE(pool->alloc(kCallerSession, 1, BlockState::kWriting, blocks).ok());
  ASSERT_TRUE(index.insert(kCallerSession, prompt({1, 2}), blocks).ok());
  ASSERT_TRUE(pool->unpin(kCallerSession, blocks).ok());
  pool->unpublish(blocks[0].index());
  EXPECT_THAT(index.audit().to_string(), HasSubstr("which is gone"));
}

}  // namespace
}  // namespace mempool
