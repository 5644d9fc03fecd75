// SPDX-License-Identifier: Apache-2.0
// Owns the geometry of the plot.
#include "perf/bar_chart.h"

#include <algorithm>

#include <fmt/format.h>

#include "core/check.h"
#include "perf/svg_text.h"

namespace mempool {
namespace {

constexpr int kWidth = 720;
constexpr int kLabelWidth = 250;
constexpr int kBarWidth = 360;  // of the largest value
constexpr int kBarHeight = 14;
constexpr int kPairHeight = 40;
constexpr int kTitleHeight = 40;
constexpr char kMeasuredColor[] = "#2f6f9f";
constexpr char kReferenceColor[] = "#b9c4cc";

std::string bar_at(int y, double value, double most, const char* color, const std::string& unit) {
  const int width = most > 0 ? static_cast<int>(kBarWidth * value / most) : 0;
  return fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"/>\n",
                     kLabelWidth, y, width, kBarHeight, color) +
         svg_text(kLabelWidth + width + 6, y + kBarHeight - 2,
                  fmt::format("{:.2f} {}", value, unit));
}

}  // namespace

std::string bar_chart(const std::string& title, const std::string& unit,
                      const std::vector<BarPair>& pairs) {
  MEMPOOL_CHECK(!pairs.empty());
  double most = 0;
  for (const BarPair& pair : pairs) most = std::max({most, pair.measured, pair.reference});
  const int height = kTitleHeight + kPairHeight * static_cast<int>(pairs.size());
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n",
      kWidth, height);
  out += svg_text(10, 24, title);
  int y = kTitleHeight;
  for (const BarPair& pair : pairs) {
    out += svg_text(10, y + kBarHeight + 2, pair.label);
    out += bar_at(y, pair.measured, most, kMeasuredColor, unit);
    out += bar_at(y + kBarHeight + 2, pair.reference, most, kReferenceColor, unit);
    y += kPairHeight;
  }
  return out + "</svg>\n";
}

}  // namespace mempool
