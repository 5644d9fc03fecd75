// SPDX-License-Identifier: Apache-2.0
// Owns the tests of the heat map.
#include "perf/heat_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mempool {
namespace {

using ::testing::HasSubstr;

TEST(HeatMap, largest_value_is_darkest_and_a_missing_one_is_blank) {
  const std::string svg = heat_maps({{"title", {"a", "b"}, {{{}, 4}, {0, {}}}}});
  EXPECT_THAT(svg, HasSubstr("fill=\"#2f6f9f\"/>\n<text x=\"232\" y=\"86\">4.00</text>"));
  EXPECT_THAT(svg, HasSubstr("fill=\"#e2ecf3\"/>\n<text x=\"160\" y=\"122\">0.00</text>"));
  EXPECT_THAT(svg, HasSubstr("x=\"140\" y=\"64\" width=\"70\" height=\"34\" fill=\"#f2f4f5\""));
}

TEST(HeatMap, several_stand_one_below_the_other) {
  const HeatMap map{"a < b", {"a"}, {{{}}}};
  const std::string svg = heat_maps({map, map});
  EXPECT_THAT(svg, HasSubstr("y=\"24\">a &lt; b"));
  EXPECT_THAT(svg, HasSubstr("y=\"144\">a &lt; b"));
  EXPECT_THAT(svg, HasSubstr("height=\"240\""));
}

}  // namespace
}  // namespace mempool
