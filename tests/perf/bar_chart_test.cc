// SPDX-License-Identifier: Apache-2.0
// Owns the tests of the plot.
#include "perf/bar_chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mempool {
namespace {

using ::testing::HasSubstr;

TEST(BarChart, largest_value_fills_the_width_and_others_follow_it) {
  const std::string svg = bar_chart("title", "GB/s", {{"a", 2, 4}});
  EXPECT_THAT(svg, HasSubstr("width=\"360\" height=\"14\""));
  EXPECT_THAT(svg, HasSubstr("width=\"180\" height=\"14\""));
  EXPECT_THAT(svg, HasSubstr("2.00 GB/s"));
}

TEST(BarChart, words_cannot_break_the_document) {
  EXPECT_THAT(bar_chart("a < b & c", "s", {{"x>y", 1, 1}}), HasSubstr("a &lt; b &amp; c"));
}

}  // namespace
}  // namespace mempool
