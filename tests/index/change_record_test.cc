// SPDX-License-Identifier: Apache-2.0
// Tests that the change records tell everything that happens to the index, in an order that holds.
#include "index/change_record.h"

#include <gmock/gmock.h>

#include "tests/index/index_fixture.h"

namespace mempool {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

/// A record with its tokens, as "+parent|tokens" or "-parent|tokens".
std::string words(const ChangeRecord& record) {
  std::string out = record.kind == ChangeRecord::Kind::kStored ? "+" : "-";
  for (const TokenId token : record.parent) out += std::to_string(token);
  out += "|";
  for (const TokenId token : record.tokens) out += std::to_string(token);
  return out;
}

/// Thread: confined.
class ChangeRecordTest : public testing::Test {
 protected:
  void TearDown() override { EXPECT_EQ(index_.audit().to_string(), "OK"); }

  void insert(const Tokens& tokens) {
    std::vector<BlockAddress> blocks;
    const size_t held = index_.match(kCallerSession, {content_, tokens}, blocks) / kTokensPerBlock;
    const size_t count = tokens.size() / kTokensPerBlock;
    ASSERT_TRUE(pool_->alloc(kCallerSession, count - held, BlockState::kWriting, blocks).ok());
    ASSERT_TRUE(index_.insert(kCallerSession, {content_, tokens}, blocks).ok());
    ASSERT_TRUE(pool_->unpin(kCallerSession, blocks).ok());
  }
  std::vector<std::string> take() { return std::exchange(told_, {}); }

  Content content_ = test_content("one");
  std::vector<std::string> told_;
  uint64_t sequence_ = 0;
  std::unique_ptr<BlockPool> pool_ = test_pool();
  LocalIndex index_{*pool_, lru(), [this](const ChangeRecord& record) {
                      EXPECT_EQ(record.sequence, ++sequence_);
                      EXPECT_EQ(record.root, content_.id);
                      EXPECT_EQ(record.medium, Medium::kHost);
                      told_.push_back(words(record));
                    }};
};

TEST_F(ChangeRecordTest, stored_names_only_what_is_new) {
  insert({1, 1, 2, 2});
  EXPECT_THAT(take(), ElementsAre("+|1122"));
  insert({1, 1, 2, 2, 3, 3});
  EXPECT_THAT(take(), ElementsAre("+1122|33"));
  insert({1, 1, 9, 9});
  EXPECT_THAT(take(), ElementsAre("+11|99"));
  insert({1, 1, 2, 2});
  EXPECT_THAT(take(), IsEmpty());
}

TEST_F(ChangeRecordTest, matching_tells_nothing) {
  insert({1, 1});
  take();
  std::vector<BlockAddress> out;
  index_.match(kCallerSession, {content_, Tokens{1, 1}}, out);
  EXPECT_THAT(take(), IsEmpty());
}

TEST_F(ChangeRecordTest, refused_insert_tells_nothing) {
  EXPECT_FALSE(index_.insert(kCallerSession, {content_, Tokens{1, 1}}, {}).ok());
  EXPECT_THAT(take(), IsEmpty());
}

TEST_F(ChangeRecordTest, evict_tells_each_run_it_took) {
  insert({1, 1, 2, 2, 3, 3});
  take();
  EXPECT_EQ(index_.evict(2), 2u);
  EXPECT_THAT(take(), ElementsAre("-11|2233"));
  EXPECT_EQ(index_.evict(2), 1u);
  EXPECT_THAT(take(), ElementsAre("-|11"));
}

TEST_F(ChangeRecordTest, erase_tells_the_continuations_first) {
  insert({1, 1, 2, 2, 3, 3});
  insert({1, 1, 2, 2, 4, 4});
  take();
  index_.erase({content_, Tokens{1, 1, 2, 2}});
  EXPECT_THAT(take(), ElementsAre("-1122|44", "-1122|33", "-11|22"));
}

}  // namespace
}  // namespace mempool
