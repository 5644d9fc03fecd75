// SPDX-License-Identifier: Apache-2.0
// Tests what second_hit lets into the index, and what insert() says of the rest.
#include "index/admission_policy.h"

#include <gmock/gmock.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <set>

#include "tests/index/index_fixture.h"

namespace mempool {
namespace {

using testing::HasSubstr;

/// Gives an index that admits on the second asking. Thread: confined.
class SecondHitTest : public IndexTest {
 protected:
  void TearDown() override {
    EXPECT_EQ(choosy_.audit().to_string(), "OK");
    EXPECT_TRUE(pool_->audit().ok());
  }
  InsertOutcome offer(const Tokens& tokens, const std::vector<BlockAddress>& blocks,
                      SessionId session = kCallerSession) {
    auto outcome = choosy_.insert(session, prompt(tokens), blocks);
    EXPECT_TRUE(outcome.ok()) << outcome.status().to_string();
    return outcome.ok() ? *outcome : InsertOutcome{};
  }
  /// Offer new blocks and let them go; gives how many were admitted.
  size_t offer_new(const Tokens& tokens) {
    const auto blocks = alloc(tokens.size() / kTokensPerBlock);
    const size_t admitted = offer(tokens, blocks).admitted;
    unpin(blocks);
    return admitted;
  }
  size_t held(const Tokens& tokens) const { return choosy_.peek(prompt(tokens)); }

  LocalIndex choosy_{*pool_, lru(), nullptr,
                     make_admission_policy("second_hit", kPoolBlocks).value()};
};

TEST_F(SecondHitTest, tokens_are_admitted_when_they_come_again) {
  EXPECT_EQ(offer_new({1, 1, 2, 2}), 0u);
  EXPECT_EQ(held({1, 1, 2, 2}), 0u);
  EXPECT_EQ(pool_->free_blocks(), kPoolBlocks);  // what is refused goes with its last pin
  EXPECT_EQ(offer_new({1, 1, 3, 3}), 1u);
  EXPECT_EQ(offer_new({1, 1, 3, 3, 4, 4}), 2u);
  EXPECT_EQ(held({1, 1, 3, 3}), 4u);
}

TEST_F(SecondHitTest, refused_blocks_stay_the_callers_as_they_were) {
  offer_new({1, 1});
  const auto blocks = alloc(2);
  const InsertOutcome outcome = offer({1, 1, 2, 2}, blocks);
  EXPECT_EQ(outcome.admitted, 1u);
  EXPECT_EQ(outcome.serving, std::vector(blocks.begin(), blocks.begin() + 1));
  EXPECT_TRUE(outcome.duplicates.empty());
  EXPECT_EQ(pool_->state(blocks[0].index()), BlockState::kPublished);
  EXPECT_EQ(pool_->state(blocks[1].index()), BlockState::kWriting);
  EXPECT_TRUE(pool_->free(kCallerSession, std::span(blocks).subspan(1)).ok());
  unpin({blocks[0]});
}

TEST_F(SecondHitTest, the_same_blocks_offered_again_are_no_second_asking) {
  const auto blocks = alloc(1);
  EXPECT_EQ(offer({1, 1}, blocks).admitted, 0u);
  EXPECT_EQ(offer({1, 1}, blocks).admitted, 0u);
  unpin(blocks);
  EXPECT_EQ(offer_new({1, 1}), 1u);
}

TEST_F(SecondHitTest, what_is_published_is_a_duplicate_and_counts_as_admitted) {
  offer_new({1, 1});
  offer_new({1, 1});
  const auto blocks = alloc(2);
  const InsertOutcome outcome = offer({1, 1, 2, 2}, blocks);
  EXPECT_EQ(outcome.admitted, 1u);
  EXPECT_EQ(outcome.duplicates, std::vector<size_t>{0});
  EXPECT_NE(outcome.serving.at(0), blocks[0]);
  unpin(blocks);
}

TEST_F(SecondHitTest, a_seal_of_a_refused_block_is_not_taken) {
  const auto blocks = alloc(1);
  const Seal seals[] = {{0, 42}};
  ASSERT_TRUE(choosy_.insert(kCallerSession, prompt({1, 1}), blocks, seals).ok());
  EXPECT_FALSE(pool_->checksum(blocks[0].index()).has_value());
  unpin(blocks);
}

TEST_F(SecondHitTest, what_a_peer_brings_is_admitted_at_once) {
  const auto blocks = alloc(1, kPeer);
  EXPECT_EQ(offer({1, 1}, blocks, kPeer).admitted, 1u);
  unpin(blocks, kPeer);
  EXPECT_EQ(held({1, 1}), 2u);
}

TEST(AdmissionPolicy, unknown_name_is_refused_with_the_names_there_are) {
  EXPECT_TRUE(make_admission_policy("all", 1).ok());
  const Status status = make_admission_policy("some", 1).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("all, second_hit"));
}

/// The prefixes offered last, as many as the pool has blocks. Thread: confined.
class Offered {
 public:
  /// Requires: the prefix was offered in new blocks.
  bool seen(const Tokens& prefix) {
    if (std::ranges::count(list_, prefix) > 0) return true;
    list_.push_back(prefix);
    if (list_.size() > kPoolBlocks) list_.pop_front();
    return false;
  }

 private:
  std::deque<Tokens> list_;
};

RC_GTEST_PROP(AdmissionModel, exactly_what_was_offered_before_is_admitted, ()) {
  const auto any_prompt = rc::gen::mapcat(rc::gen::inRange<size_t>(0, 5), [](size_t blocks) {
    return rc::gen::container<Tokens>(blocks * kTokensPerBlock, rc::gen::inRange<TokenId>(0, 3));
  });
  const auto pool = test_pool();
  const Content content = test_content("one");
  LocalIndex index(*pool, lru(), nullptr, make_admission_policy("second_hit", kPoolBlocks).value());
  std::set<Tokens> published;
  Offered offered;
  for (const Tokens& tokens :
       *rc::gen::scale(4, rc::gen::container<std::vector<Tokens>>(any_prompt))) {
    const size_t count = tokens.size() / kTokensPerBlock;
    if (pool->free_blocks() < count) break;
    std::vector<BlockAddress> blocks;
    RC_ASSERT(pool->alloc(kCallerSession, count, BlockState::kWriting, blocks).ok());
    size_t expected = 0;
    for (size_t i = 0; i < count; ++i) {
      const auto end = tokens.begin() + static_cast<ptrdiff_t>((i + 1) * kTokensPerBlock);
      const Tokens prefix(tokens.begin(), end);
      const bool there = published.contains(prefix) || offered.seen(prefix);
      if (!there || expected != i) continue;
      ++expected;
      published.insert(prefix);
    }
    const auto outcome = index.insert(kCallerSession, {content, tokens}, blocks);
    RC_ASSERT(outcome.ok());
    RC_ASSERT(outcome->admitted == expected);
    RC_ASSERT(outcome->serving.size() == expected);
    RC_ASSERT(index.peek({content, tokens}) == expected * kTokensPerBlock);
    RC_ASSERT(pool->unpin(kCallerSession, blocks).ok());
    RC_ASSERT(index.audit().to_string() == "OK");
    RC_ASSERT(pool->free_blocks() == kPoolBlocks - published.size());
  }
}

}  // namespace
}  // namespace mempool
