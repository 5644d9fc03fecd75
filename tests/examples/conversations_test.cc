// SPDX-License-Identifier: Apache-2.0
// Owns the tests of the drawn conversations: repeatable, shared where they should be, in bounds.
#include "examples/demo/conversations.h"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

namespace mempool::demo {
namespace {

using Tokens = std::vector<TokenId>;

bool begins_with(const Tokens& tokens, const Tokens& start) {
  return tokens.size() >= start.size() && std::equal(start.begin(), start.end(), tokens.begin());
}

TEST(Conversations, equal_seeds_give_equal_prompts) {
  ConversationOptions options;
  const std::vector<Tokens> prompts = draw_conversations(options);
  EXPECT_EQ(draw_conversations(options), prompts);
  options.seed = 2;
  EXPECT_NE(draw_conversations(options), prompts);
}

TEST(Conversations, more_requests_only_add_to_the_end) {
  ConversationOptions options;
  options.requests = 50;
  const std::vector<Tokens> few = draw_conversations(options);
  options.requests = 80;
  std::vector<Tokens> many = draw_conversations(options);
  ASSERT_EQ(few.size(), 50u);
  ASSERT_EQ(many.size(), 80u);
  many.resize(50);
  EXPECT_EQ(many, few);
}

TEST(Conversations, every_prompt_starts_with_one_of_the_system_prompts) {
  ConversationOptions options;
  std::set<Tokens> beginnings;
  for (const Tokens& prompt : draw_conversations(options)) {
    ASSERT_GE(prompt.size(), options.system_tokens.least);
    beginnings.emplace(prompt.begin(), prompt.begin() + options.system_tokens.least);
  }
  EXPECT_EQ(beginnings.size(), options.system_prompts);
}

TEST(Conversations, a_later_turn_holds_all_that_was_said_before) {
  ConversationOptions options;
  options.open = 1;
  options.turns = {3, 3};
  options.requests = 9;
  const std::vector<Tokens> prompts = draw_conversations(options);
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (i % 3 == 0) continue;
    EXPECT_TRUE(begins_with(prompts[i], prompts[i - 1])) << i;
    const size_t added = prompts[i].size() - prompts[i - 1].size();
    EXPECT_GE(added, options.user_tokens.least + options.answer_tokens.least);
    EXPECT_LE(added, options.user_tokens.most + options.answer_tokens.most);
  }
  EXPECT_FALSE(begins_with(prompts[3], prompts[2])) << "the fourth starts a new conversation";
}

}  // namespace
}  // namespace mempool::demo
