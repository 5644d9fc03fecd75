// SPDX-License-Identifier: Apache-2.0
// Owns the tests of what is made of a matrix' cells.
#include "perf/matrix_perf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mempool {
namespace {

Matrix two_hosts() {
  Matrix matrix;
  matrix.measured.pieces = 32;
  matrix.names = {"a", "b"};
  matrix.cells = {{"a", "b", {}, 4.5, {}}, {"b", "a", unavailable("b:1: gone"), 0, {}}};
  return matrix;
}

TEST(Matrix, table_has_each_pair_and_the_reason_of_the_failed_below) {
  EXPECT_EQ(matrix_text(two_hosts()),
            "write over tcp, scattered, 32 pieces of 32KiB: GB/s, median\n"
            "from \\ to  a          b\n"
            "a          -       4.50\n"
            "b          failed     -\n"
            "b to a: UNAVAILABLE: b:1: gone\n");
}

TEST(Matrix, heat_map_leaves_out_what_was_not_measured) {
  const HeatMap map = heat_map_of(two_hosts());
  EXPECT_EQ(map.labels, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(map.values[0][1], 4.5);
  EXPECT_FALSE(map.values[0][0].has_value());
  EXPECT_FALSE(map.values[1][0].has_value());
}

TEST(Matrix, hosts_are_two_or_more_each_of_its_own_address) {
  EXPECT_TRUE(check_matrix_hosts({{"a", "h:1"}, {"b", "h:2"}}).ok());
  for (const std::map<std::string, std::string>& hosts : {std::map<std::string, std::string>{},
                                                          {{"a", "h:1"}},
                                                          {{"a", "h:1"}, {"b", "h:1"}},
                                                          {{"a", "h:1"}, {"b", "h"}}}) {
    EXPECT_EQ(check_matrix_hosts(hosts).code(), StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace mempool
