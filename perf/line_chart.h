// SPDX-License-Identifier: Apache-2.0
// Owns the plot of lines over one axis, as SVG.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace mempool {

struct ChartLine {
  std::string label;
  std::vector<std::pair<double, double>> points;  // x, y
};

struct LineChart {
  std::string title;
  std::string x_label;
  std::string y_label;
  std::vector<ChartLine> lines;
};

/// Give an SVG document. The x axis is logarithmic, the y axis begins at 0.
/// Requires: at least one point in each line, and x above 0.
std::string line_chart(const LineChart& chart);

}  // namespace mempool
