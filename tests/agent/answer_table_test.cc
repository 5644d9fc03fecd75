// SPDX-License-Identifier: Apache-2.0
// Owns the proof that answers are kept long enough, and never forgotten silently.
#include "agent/answer_table.h"

#include <gtest/gtest.h>

#include <variant>

namespace mempool {
namespace {

CommitReply reply_with_addresses(uint64_t number) {
  return {number, {}, {BlockAddress::make(7, 1, Medium::kHost, 3)}};
}

TEST(AnswerTable, a_number_never_answered_is_unknown_and_not_forgotten) {
  AnswerTable table;
  EXPECT_EQ(table.find(1), nullptr);
  EXPECT_FALSE(table.forgotten(1));
}

TEST(AnswerTable, an_answer_stays_as_it_was_given) {
  AnswerTable table;
  table.finish(5, reply_with_addresses(5));
  ASSERT_NE(table.find(5), nullptr);
  EXPECT_EQ(std::get<CommitReply>(*table.find(5)).serving.size(), 1u);
}

TEST(AnswerTable, numbers_that_fell_out_are_below_the_mark) {
  AnswerTable table;
  for (uint64_t number = 1; number <= AnswerTable::kAnswers + 2; ++number) {
    table.finish(number, CancelReply{number});
  }
  EXPECT_EQ(table.find(2), nullptr);
  EXPECT_TRUE(table.forgotten(2));
  EXPECT_NE(table.find(3), nullptr);
  EXPECT_FALSE(table.forgotten(3));
}

TEST(AnswerTable, a_number_that_is_still_open_is_not_forgotten_with_its_elders) {
  AnswerTable table;
  for (uint64_t number = 1; number <= AnswerTable::kAnswers + 2; ++number) {
    if (number != 4) table.finish(number, CancelReply{number});
  }
  EXPECT_FALSE(table.forgotten(4));
}

TEST(AnswerTable, only_the_latest_answers_keep_their_addresses) {
  AnswerTable table;
  for (uint64_t number = 1; number <= AnswerTable::kFullAnswers + 1; ++number) {
    table.finish(number, reply_with_addresses(number));
  }
  EXPECT_TRUE(std::get<CommitReply>(*table.find(1)).serving.empty());
  EXPECT_EQ(std::get<CommitReply>(*table.find(2)).serving.size(), 1u);
}

TEST(AnswerTable, of_blocks_that_are_held_the_same_is_true) {
  AnswerTable table;
  OfferReply held;
  held.reserved.push_back(BlockAddress::make(1, 1, Medium::kHost, 1));
  table.finish(1, held);
  EXPECT_EQ(std::get<OfferReply>(*table.find(1)).reserved.size(), 1u);
  for (uint64_t number = 2; number <= AnswerTable::kFullAnswers + 1; ++number) {
    table.finish(number, CancelReply{number});
  }
  EXPECT_TRUE(std::get<OfferReply>(*table.find(1)).reserved.empty());
}

}  // namespace
}  // namespace mempool
