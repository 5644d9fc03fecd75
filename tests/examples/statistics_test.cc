// SPDX-License-Identifier: Apache-2.0
// Owns the tests of percentiles and of the figures over prompts.
#include "examples/demo/statistics.h"

#include <gtest/gtest.h>

namespace mempool::demo {
namespace {

TEST(Percentile, is_the_least_value_that_the_share_does_not_exceed) {
  EXPECT_EQ(percentile({5, 1, 4, 2, 3}, 0.5), 3);
  EXPECT_EQ(percentile({4, 1, 3, 2}, 0.5), 2);
  EXPECT_EQ(percentile({4, 1, 3, 2}, 0.99), 4);
  EXPECT_EQ(percentile({4, 1, 3, 2}, 0), 1);
  EXPECT_EQ(percentile({4, 1, 3, 2}, 1), 4);
  EXPECT_EQ(percentile({}, 0.5), 0);
}

TEST(PromptStatistics, count_whole_blocks_of_equal_prefixes_as_seen_before) {
  const std::vector<std::vector<TokenId>> prompts = {
      {1, 2, 3, 4, 5},        // nothing before it
      {1, 2, 3, 4, 5, 6},     // its two whole blocks of two: 1 2 and 3 4
      {9, 9, 3, 4},           // 3 4 follows other tokens here
      {1, 2, 3, 4, 5, 6, 7},  // three blocks
  };
  const PromptStatistics statistics = prompt_statistics(prompts, 2);
  EXPECT_EQ(statistics.prompts, 4u);
  EXPECT_EQ(statistics.tokens, 22u);
  EXPECT_EQ(statistics.tokens_p50, 5u);
  EXPECT_EQ(statistics.tokens_max, 7u);
  EXPECT_EQ(statistics.tokens_seen_before, 4u + 6u);
  EXPECT_EQ(to_string(statistics),
            "4 prompts of 6 tokens on average (p50 5, most 7); an endless cache would hit 45.5 %");
}

}  // namespace
}  // namespace mempool::demo
