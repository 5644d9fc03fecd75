// SPDX-License-Identifier: Apache-2.0
// Tests `mempool replay`: its table, its files and its errors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/cli/command_process.h"

namespace mempool {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kTrace[] = MEMPOOL_TEST_TRACES "/mooncake.jsonl";

TEST(ReplayCommand, prints_a_row_for_each_capacity_with_the_bounds_beside) {
  const CommandResult result =
      run_command({"replay", kTrace, "--capacities", "8,1", "--policies", "lru,s3fifo+second_hit"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_EQ(result.errors, "");
  EXPECT_EQ(result.output,
            "6 requests (mooncake), 7544 tokens, 8 distinct blocks of 512\n"
            "blocks  lru %  s3fifo+second_hit %  belady %  endless %\n"
            "     1  13.57                 6.79     20.36      40.72\n"
            "     8  40.72                13.57     40.72      40.72\n");
}

TEST(ReplayCommand, json_has_a_row_for_each_policy_and_capacity) {
  const CommandResult result =
      run_command({"replay", kTrace, "--capacities", "3,4", "--policies", "lru", "--json", "-"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  const auto rows = nlohmann::json::parse(result.output).at("rows");
  ASSERT_EQ(rows.size(), 6u);
  EXPECT_EQ(rows[0].at("policy"), "lru");
  EXPECT_EQ(rows[0].at("capacity_blocks"), 3);
  EXPECT_EQ(rows[1].at("policy"), "belady");
  EXPECT_EQ(rows[5].at("hit_tokens"), 3072);
}

TEST(ReplayCommand, without_capacities_shares_of_the_trace_are_taken_and_plotted) {
  const std::string plot = write_file("replay.svg", "");
  const CommandResult result = run_command({"replay", kTrace, "--plot", plot});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  std::ostringstream text;
  text << std::ifstream(plot).rdbuf();
  EXPECT_THAT(text.str(), AllOf(StartsWith("<svg"), HasSubstr("belady"), HasSubstr("polyline")));
}

TEST(ReplayCommand, what_is_wrong_is_one_line_with_its_place) {
  const std::string path = write_file("bad.jsonl", "[1, 2]\nnonsense\n");
  CommandResult result = run_command({"replay", path});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.errors, AllOf(HasSubstr("bad.jsonl"), HasSubstr("line 2")));
  EXPECT_EQ(std::ranges::count(result.errors, '\n'), 1);
  result = run_command({"replay", kTrace, "--policies", "mru"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.errors, HasSubstr("lru, s3fifo, lfu, ttl"));
  result = run_command({"replay", kTrace, "--capacities", "0"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(run_command({"replay", "/nowhere"}).exit_code, 1);
}

}  // namespace
}  // namespace mempool
