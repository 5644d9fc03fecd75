// SPDX-License-Identifier: Apache-2.0
// Owns the proof that what a target remembers of its sources is bounded, and enough.
#include "agent/answer_book.h"

#include <gtest/gtest.h>

namespace mempool {
namespace {

/// A session in which the life's transfers 1 to `numbers` ended.
void live(AnswerBook& book, uint64_t life, const std::string& name, uint64_t numbers) {
  book.open(life, name);
  for (uint64_t number = 1; number <= numbers; ++number) {
    book.of(life).finish(number, CancelReply{number});
  }
  book.close(life);
}

TEST(AnswerBook, answers_outlive_the_session) {
  AnswerBook book;
  live(book, 7, "prefill", 2);
  book.open(7, "prefill");
  EXPECT_NE(book.of(7).find(2), nullptr);
}

TEST(AnswerBook, a_life_that_another_followed_leaves_its_mark_only) {
  AnswerBook book;
  live(book, 7, "prefill", 3);
  live(book, 8, "prefill", 1);
  EXPECT_EQ(book.answers(), 1u);
  book.open(7, "prefill");
  EXPECT_EQ(book.of(7).find(3), nullptr);
  EXPECT_TRUE(book.of(7).forgotten(3));
  EXPECT_FALSE(book.of(7).forgotten(4));
}

TEST(AnswerBook, a_life_with_a_session_keeps_its_answers_whoever_comes_under_its_name) {
  AnswerBook book;
  book.open(7, "prefill");
  book.of(7).finish(1, CancelReply{1});
  live(book, 8, "prefill", 1);
  EXPECT_NE(book.of(7).find(1), nullptr);
}

TEST(AnswerBook, answers_are_kept_of_the_latest_names_only) {
  AnswerBook book;
  for (uint64_t life = 1; life <= AnswerBook::kQuietLives + 1; ++life) {
    live(book, life, std::to_string(life), 1);
  }
  EXPECT_EQ(book.answers(), AnswerBook::kQuietLives);
  book.open(1, "1");
  EXPECT_TRUE(book.of(1).forgotten(1));
  book.open(2, "2");
  EXPECT_NE(book.of(2).find(1), nullptr);
}

TEST(AnswerBook, the_oldest_lives_go_but_none_that_has_a_session) {
  AnswerBook book;
  book.open(1, "first");
  book.of(1).finish(1, CancelReply{1});
  for (uint64_t life = 2; life <= AnswerBook::kLives + 3; ++life) live(book, life, "others", 1);
  EXPECT_EQ(book.lives(), AnswerBook::kLives + 1);
  EXPECT_NE(book.of(1).find(1), nullptr);
  book.open(3, "others");
  EXPECT_FALSE(book.of(3).forgotten(1));  // gone, mark and all
  book.open(4, "others");
  EXPECT_TRUE(book.of(4).forgotten(1));
}

}  // namespace
}  // namespace mempool
