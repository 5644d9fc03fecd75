// SPDX-License-Identifier: Apache-2.0
// Owns the tests of the index measurement's prompts: their stated statistics.
#include "perf/index_workload.h"

#include <algorithm>
#include <cstddef>
#include <span>

#include <gtest/gtest.h>

namespace mempool {
namespace {

bool begins_with(const std::vector<TokenId>& prompt, const std::vector<TokenId>& start) {
  return prompt.size() > start.size() &&
         std::ranges::equal(std::span(prompt).first(start.size()), start);
}

TEST(IndexWorkload, equal_seeds_give_equal_prompts) {
  EXPECT_EQ(make_index_workload(20, 7), make_index_workload(20, 7));
  EXPECT_NE(make_index_workload(20, 7), make_index_workload(20, 8));
}

TEST(IndexWorkload, prompts_have_2000_to_8000_tokens_of_the_vocabulary) {
  for (const auto& prompt : make_index_workload(300, 1)) {
    EXPECT_GE(prompt.size(), 2000u);
    EXPECT_LE(prompt.size(), 8000u);
    EXPECT_LT(std::ranges::max(prompt), 32000u);
  }
}

TEST(IndexWorkload, about_a_third_extend_an_earlier_prompt) {
  // 40 of 100 draws want to; those that draw a prompt without room do not.
  const auto prompts = make_index_workload(300, 1);
  size_t turns = 0;
  for (size_t i = 0; i < prompts.size(); ++i) {
    turns += std::any_of(prompts.begin(), prompts.begin() + static_cast<ptrdiff_t>(i),
                         [&](const auto& earlier) { return begins_with(prompts[i], earlier); });
  }
  EXPECT_GT(turns, prompts.size() * 25 / 100);
  EXPECT_LT(turns, prompts.size() * 45 / 100);
}

TEST(IndexWorkload, first_system_prompt_is_shared_most) {
  // With weights 1/k of 20 the first takes 28 of 100; 512 tokens tell system prompts apart.
  const auto prompts = make_index_workload(400, 1);
  size_t most = 0;
  for (const auto& prompt : prompts) {
    const auto same_start = [&](const auto& other) {
      return std::equal(prompt.begin(), prompt.begin() + 512, other.begin());
    };
    most = std::max<size_t>(most, std::ranges::count_if(prompts, same_start));
  }
  EXPECT_GT(most, prompts.size() * 20 / 100);
  EXPECT_LT(most, prompts.size() * 40 / 100);
}

}  // namespace
}  // namespace mempool
