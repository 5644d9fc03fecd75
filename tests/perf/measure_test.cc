// SPDX-License-Identifier: Apache-2.0
// Owns the tests of spreads, tables and the file of rows.
#include "perf/measure.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace mempool {
namespace {

TEST(Spread, median_of_an_odd_number_is_the_one_in_the_middle) {
  const Spread spread = spread_of({9, 1, 4});
  EXPECT_EQ(spread.min, 1);
  EXPECT_EQ(spread.median, 4);
  EXPECT_EQ(spread.max, 9);
}

TEST(Spread, median_of_an_even_number_is_the_mean_of_the_two_in_the_middle) {
  EXPECT_EQ(spread_of({8, 1, 2, 4}).median, 3);
}

TEST(Spread, one_sample_is_all_three) {
  EXPECT_EQ(to_text(spread_of({2.5}), 1), "2.5/2.5/2.5");
}

TEST(Spread, json_names_the_three) {
  EXPECT_EQ(to_json(Spread{1, 2, 3}).dump(), R"({"min":1.0,"median":2.0,"max":3.0})");
}

TEST(TextTable, columns_are_as_wide_as_their_widest_cell) {
  TextTable table({"op", "GB/s", "note"});
  table.add_row({"write", "1.5", "x"});
  table.add_row({"r", "12.5", ""});
  EXPECT_EQ(table.text(),
            "op     GB/s  note\n"
            "write   1.5  x\n"
            "r      12.5\n");
}

TEST(WriteRows, file_holds_the_rows_under_their_name) {
  const std::string path = ::testing::TempDir() + "mempool_rows.json";
  ASSERT_TRUE(write_rows(path, nlohmann::ordered_json::array({{{"pieces", 3}}})).ok());
  std::ifstream stream(path);
  EXPECT_EQ(nlohmann::json::parse(stream), nlohmann::json::parse(R"({"rows":[{"pieces":3}]})"));
}

TEST(WriteRows, path_that_cannot_be_written_is_named) {
  const Status status = write_rows("/nowhere/rows.json", nlohmann::ordered_json::array());
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("/nowhere/rows.json"));
}

}  // namespace
}  // namespace mempool
