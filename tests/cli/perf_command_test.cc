// SPDX-License-Identifier: Apache-2.0
// Owns the tests of `mempool perf`: its reports, not its figures.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/cli/command_process.h"

namespace mempool {
namespace {

using ::testing::HasSubstr;

nlohmann::json rows_of(const std::vector<std::string>& arguments) {
  const CommandResult result = run_command(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  const auto document = nlohmann::json::parse(result.output, nullptr, false);
  EXPECT_TRUE(document.is_object()) << result.output;
  return document.is_object() ? document.at("rows") : nlohmann::json::array();
}

TEST(PerfCommand, alloc_gives_a_row) {
  const auto rows = rows_of({"perf", "alloc", "--blocks", "256", "--repeat", "2", "--json", "-"});
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_GT(rows[0].at("alloc_free_ns").at("median"), 0);
}

TEST(PerfCommand, alloc_with_churn_gives_two_rows_for_each) {
  const auto rows = rows_of(
      {"perf", "alloc", "--churn", "0,50", "--blocks", "2048", "--repeat", "2", "--json", "-"});
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[0].at("churn_percent"), 0);
  EXPECT_EQ(rows[0].at("run_pair_calls_aggregated").at("max"), 1);
  EXPECT_EQ(rows[1].at("target"), "churned");
  EXPECT_EQ(rows[2].at("churn_percent"), 50);
}

TEST(PerfCommand, churn_that_is_no_list_of_numbers_is_wrong_usage) {
  for (const char* churn : {"50,x", "-1", "1001"}) {
    const CommandResult result = run_command({"perf", "alloc", "--churn", churn});
    EXPECT_EQ(result.exit_code, 2) << churn;
    EXPECT_THAT(result.errors, HasSubstr("mempool: "));
  }
}

TEST(PerfCommand, latency_gives_a_row_for_each_call) {
  const auto rows = rows_of({"perf", "latency", "--blocks", "2", "--repeat", "2", "--json", "-"});
  ASSERT_EQ(rows.size(), 2u);
  for (const auto& row : rows) {
    EXPECT_GT(row.at("call_p50_us"), 0);
    EXPECT_GT(row.at("bare_p50_us"), 0);
  }
  EXPECT_EQ(rows[0].at("call"), "attached alloc of 2 blocks");
  EXPECT_EQ(rows[1].at("request_bytes"), 2 << 20);
}

TEST(PerfCommand, latency_of_more_blocks_than_the_pool_has_is_wrong_usage) {
  EXPECT_EQ(run_command({"perf", "latency", "--blocks", "100000"}).exit_code, 2);
}

TEST(PerfCommand, index_gives_a_row) {
  const auto rows = rows_of({"perf", "index", "--sequences", "10", "--repeat", "1", "--json", "-"});
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_GT(rows[0].at("match_us").at("median"), 0);
}

TEST(PerfCommand, transfer_gives_a_row_for_each_combination) {
  const auto rows = rows_of({"perf", "transfer", "--piece-bytes", "4KiB,8KiB", "--verify",
                             "off,always", "--pieces", "32", "--repeat", "1", "--json", "-"});
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[1].at("verify"), "always");
  EXPECT_EQ(rows[3].at("piece_bytes"), 8192);
  EXPECT_GT(rows[0].at("gb_per_s").at("median"), 0);
}

TEST(PerfCommand, transfer_over_shm_is_measured_beside_memcpy) {
  const auto rows =
      rows_of({"perf", "transfer", "--transport", "shm", "--op", "write,read", "--piece-bytes",
               "4KiB", "--pieces", "32", "--repeat", "1", "--json", "-"});
  ASSERT_EQ(rows.size(), 2u);
  for (const auto& row : rows) {
    EXPECT_EQ(row.at("transport"), "shm");
    EXPECT_EQ(row.at("bare"), "memcpy");
    EXPECT_GT(row.at("gb_per_s").at("median"), 0);
    EXPECT_GT(row.at("bare_gb_per_s").at("median"), 0);
    EXPECT_GT(row.at("connect_ms"), 0);
  }
}

TEST(PerfCommand, transfer_without_json_prints_a_table) {
  const CommandResult result =
      run_command({"perf", "transfer", "--piece-bytes", "4KiB", "--pieces", "32", "--repeat", "1"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_THAT(result.output, HasSubstr("bare GB/s"));
  EXPECT_EQ(result.errors, "");
}

TEST(PerfCommand, output_that_cannot_be_written_is_found_before_anything_is_measured) {
  for (const char* option : {"--json", "--plot"}) {
    const CommandResult result = run_command({"perf", "transfer", option, "/nowhere/rows"});
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(result.output, "");
    EXPECT_THAT(result.errors, HasSubstr("/nowhere/rows: cannot write it: No such file"));
  }
}

TEST(PerfCommand, piece_size_that_makes_no_piece_is_wrong_usage) {
  const CommandResult result = run_command({"perf", "transfer", "--piece-bytes", "100"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.errors, HasSubstr("100"));
}

}  // namespace
}  // namespace mempool
