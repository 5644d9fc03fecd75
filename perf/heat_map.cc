// SPDX-License-Identifier: Apache-2.0
// Owns the geometry and the colours of the plot.
#include "perf/heat_map.h"

#include <algorithm>

#include <fmt/format.h>

#include "core/check.h"
#include "perf/svg_text.h"

namespace mempool {
namespace {

constexpr int kCell = 72;
constexpr int kCellHeight = 36;
constexpr int kLabelWidth = 140;
constexpr int kTitleHeight = 40;
constexpr int kHeadingHeight = 24;
constexpr int kMargin = 20;
constexpr int kWidthLeast = 640;  // room for a title
constexpr char kBlank[] = "#f2f4f5";

struct Color {
  int red, green, blue;
};
constexpr Color kLight{226, 236, 243};
constexpr Color kDark{47, 111, 159};

std::string shade(double part) {
  const auto mix = [part](int from, int to) { return from + static_cast<int>((to - from) * part); };
  return fmt::format("#{:02x}{:02x}{:02x}", mix(kLight.red, kDark.red),
                     mix(kLight.green, kDark.green), mix(kLight.blue, kDark.blue));
}

double largest(const HeatMap& map) {
  double most = 0;
  for (const auto& row : map.values) {
    for (const auto& value : row) most = std::max(most, value.value_or(0));
  }
  return most;
}

int height_of(const HeatMap& map) {
  return kTitleHeight + kHeadingHeight + kCellHeight * static_cast<int>(map.labels.size()) +
         kMargin;
}

std::string draw(const HeatMap& map, int top) {
  const double most = largest(map);
  std::string out = svg_text(10, top + 24, map.title);
  const int grid = top + kTitleHeight + kHeadingHeight;
  for (size_t row = 0; row < map.labels.size(); ++row) {
    MEMPOOL_CHECK(map.values.at(row).size() == map.labels.size());
    const int y = grid + kCellHeight * static_cast<int>(row);
    out += svg_text(10, y + kCellHeight / 2 + 4, map.labels[row]);
    out += svg_text(kLabelWidth + kCell * static_cast<int>(row) + 4, grid - 8, map.labels[row]);
    for (size_t column = 0; column < map.labels.size(); ++column) {
      const int x = kLabelWidth + kCell * static_cast<int>(column);
      const std::optional<double> value = map.values[row][column];
      const std::string color = value ? shade(most > 0 ? *value / most : 0) : kBlank;
      out += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"/>\n", x, y,
                         kCell - 2, kCellHeight - 2, color);
      if (value) out += svg_text(x + 20, y + kCellHeight / 2 + 4, fmt::format("{:.2f}", *value));
    }
  }
  return out;
}

}  // namespace

std::string heat_maps(const std::vector<HeatMap>& maps) {
  MEMPOOL_CHECK(!maps.empty());
  int height = 0;
  int width = kWidthLeast;
  for (const HeatMap& map : maps) {
    height += height_of(map);
    width = std::max(width, kLabelWidth + kCell * static_cast<int>(map.labels.size()) + kMargin);
  }
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n",
      width, height);
  int top = 0;
  for (const HeatMap& map : maps) {
    out += draw(map, top);
    top += height_of(map);
  }
  return out + "</svg>\n";
}

}  // namespace mempool
