// SPDX-License-Identifier: Apache-2.0
// Tests the measurement of fragmentation: what must hold for any pool, and its refusals.
#include "perf/churn_perf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace mempool {
namespace {

using ::testing::HasSubstr;

constexpr double kPieces = 80;  // K and V of 40 layers

RC_GTEST_PROP(ChurnPerf, fresh_pool_gives_one_run_and_any_pool_no_more_than_blocks, ()) {
  const uint32_t blocks = *rc::gen::inRange<uint32_t>(1024, 5000);
  const uint32_t churn = *rc::gen::inRange<uint32_t>(1, 150);
  const auto rows = run_churn_perf({{0, churn}, blocks, 2}).value();
  RC_ASSERT(rows.size() == 4u);
  for (const ChurnPerfRow& row : rows) {
    for (const RunPairs* pairs : {&row.ours, &row.lifo}) {
      RC_ASSERT(pairs->aggregated.min >= 1);
      RC_ASSERT(pairs->aggregated.max <= (row.churn == 0 ? 1 : 64));
      RC_ASSERT(pairs->discrete.median == kPieces * pairs->aggregated.median);
    }
  }
}

TEST(ChurnPerf, equal_options_give_equal_rows) {
  const ChurnPerfOptions options = {{95}, 4096, 5};
  const auto first = run_churn_perf(options).value();
  const auto again = run_churn_perf(options).value();
  ASSERT_EQ(first.size(), 2u);
  EXPECT_FALSE(first[0].churned_target);
  EXPECT_TRUE(first[1].churned_target);
  for (size_t i = 0; i < first.size(); ++i) {
    EXPECT_EQ(first[i].ours.discrete.median, again[i].ours.discrete.median);
    EXPECT_EQ(first[i].lifo.discrete.median, again[i].lifo.discrete.median);
  }
}

TEST(ChurnPerf, runs_are_kept_better_than_by_a_plain_list) {
  const auto rows = run_churn_perf({{50, 95}, 65536, 15}).value();
  ASSERT_EQ(rows.size(), 4u);
  for (const ChurnPerfRow& row : rows) {
    EXPECT_LT(row.ours.aggregated.median, row.lifo.aggregated.median) << row.churn;
  }
}

TEST(ChurnPerf, options_that_make_no_pool_are_refused) {
  EXPECT_THAT(std::string(run_churn_perf({{0}, 512, 1}).status().message()), HasSubstr("512"));
  EXPECT_THAT(std::string(run_churn_perf({{0}, 4096, 0}).status().message()), HasSubstr("repeat"));
  EXPECT_THAT(std::string(run_churn_perf({{1001}, 4096, 1}).status().message()), HasSubstr("1001"));
}

}  // namespace
}  // namespace mempool
