// SPDX-License-Identifier: Apache-2.0
// Owns the plot of values between every two of some things, as SVG.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace mempool {

struct HeatMap {
  std::string title;
  std::vector<std::string> labels;                         // of the rows, and of the columns
  std::vector<std::vector<std::optional<double>>> values;  // [row][column]; none: a blank cell
};

/// Give an SVG document with the maps one below the other; the darkest cell of each has its largest
/// value. Requires: at least one map, each with a value for every two labels.
std::string heat_maps(const std::vector<HeatMap>& maps);

}  // namespace mempool
