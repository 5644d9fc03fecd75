// SPDX-License-Identifier: Apache-2.0
// Owns the geometry of the plot of lines.
#include "perf/line_chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>

#include <fmt/format.h>

#include "core/check.h"
#include "perf/svg_text.h"

namespace mempool {
namespace {

constexpr int kWidth = 760;
constexpr int kHeight = 420;
constexpr int kLeft = 60, kTop = 50, kPlotWidth = 520, kPlotHeight = 300;
constexpr int kLegendStep = 20;
constexpr int kYTicks = 5;
constexpr std::array kColors = {"#2f6f9f", "#c2562d", "#3f8f4f", "#8a5fa8",
                                "#b08d2e", "#555f66", "#a3acb3", "#c74f7e"};

/// Where values lie on the page. Thread: confined.
class Scale {
 public:
  explicit Scale(const std::vector<ChartLine>& lines) {
    for (const ChartLine& line : lines) {
      MEMPOOL_CHECK(!line.points.empty());
      for (const auto& [x, y] : line.points) {
        MEMPOOL_CHECK(x > 0);
        x_least_ = std::min(x_least_, std::log(x));
        x_most_ = std::max(x_most_, std::log(x));
        y_most_ = std::max(y_most_, y);
      }
    }
    if (y_most_ <= 0) y_most_ = 1;
  }
  int x(double value) const {
    const double width = x_most_ - x_least_;
    const double share = width > 0 ? (std::log(value) - x_least_) / width : 0.5;
    return kLeft + static_cast<int>(std::lround(share * kPlotWidth));
  }
  int y(double value) const {
    return kTop + kPlotHeight - static_cast<int>(std::lround(value / y_most_ * kPlotHeight));
  }
  double y_most() const { return y_most_; }

 private:
  double x_least_ = std::numeric_limits<double>::max();
  double x_most_ = std::numeric_limits<double>::lowest();
  double y_most_ = 0;
};

std::string stroke(int x1, int y1, int x2, int y2, const char* color) {
  return fmt::format("<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"{}\"/>\n", x1, y1, x2,
                     y2, color);
}

std::string axes(const LineChart& chart, const Scale& scale) {
  std::string out = svg_text(10, 24, chart.title) + svg_text(10, kTop - 8, chart.y_label) +
                    svg_text(kLeft + kPlotWidth / 3, kHeight - 14, chart.x_label);
  for (int i = 0; i <= kYTicks; ++i) {
    const double value = scale.y_most() * i / kYTicks;
    out += stroke(kLeft, scale.y(value), kLeft + kPlotWidth, scale.y(value), "#e3e7ea");
    out += svg_text(14, scale.y(value) + 4, fmt::format("{:.1f}", value));
  }
  std::set<double> marks;
  for (const ChartLine& line : chart.lines) {
    for (const auto& point : line.points) marks.insert(point.first);
  }
  int free_from = 0;  // where the words before end
  for (const double mark : marks) {
    out += stroke(scale.x(mark), kTop + kPlotHeight, scale.x(mark), kTop + kPlotHeight + 5, "#333");
    if (scale.x(mark) < free_from) continue;
    const std::string words = fmt::format("{:.0f}", mark);
    out += svg_text(scale.x(mark) - 10, kTop + kPlotHeight + 20, words);
    free_from = scale.x(mark) + 8 * static_cast<int>(words.size()) + 6;
  }
  return out;
}

}  // namespace

std::string line_chart(const LineChart& chart) {
  MEMPOOL_CHECK(!chart.lines.empty());
  const Scale scale(chart.lines);
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n",
      kWidth, kHeight);
  out += axes(chart, scale);
  int legend = kTop + 10;
  for (size_t i = 0; i < chart.lines.size(); ++i) {
    const char* color = kColors[i % kColors.size()];
    std::string points;
    for (const auto& [x, y] : chart.lines[i].points) {
      points += fmt::format("{},{} ", scale.x(x), scale.y(y));
    }
    points.pop_back();
    out += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n",
                       points, color);
    const int left = kLeft + kPlotWidth + 14;
    out += stroke(left, legend - 4, left + 20, legend - 4, color);
    out += svg_text(left + 26, legend, chart.lines[i].label);
    legend += kLegendStep;
  }
  return out + "</svg>\n";
}

}  // namespace mempool
