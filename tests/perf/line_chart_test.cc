// SPDX-License-Identifier: Apache-2.0
// Tests where the plot of lines puts its points, and its words.
#include "perf/line_chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mempool {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(LineChart, axis_is_logarithmic_and_the_largest_value_is_at_the_top) {
  const std::string svg = line_chart({"title", "x", "y", {{"a", {{1, 0}, {10, 20}, {100, 40}}}}});
  EXPECT_THAT(svg, HasSubstr("points=\"60,350 320,200 580,50\""));
}

TEST(LineChart, each_line_has_its_label_and_color) {
  const std::string svg = line_chart({"t", "x", "y", {{"one", {{1, 1}}}, {"a<b", {{2, 1}}}}});
  EXPECT_THAT(svg, HasSubstr(">one</text>"));
  EXPECT_THAT(svg, HasSubstr(">a&lt;b</text>"));
  EXPECT_THAT(svg, HasSubstr("#c2562d"));
}

TEST(LineChart, lines_of_zeros_are_drawn_at_the_bottom) {
  EXPECT_THAT(line_chart({"t", "x", "y", {{"a", {{5, 0}}}}}), Not(HasSubstr("nan")));
}

}  // namespace
}  // namespace mempool
