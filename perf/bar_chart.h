// SPDX-License-Identifier: Apache-2.0
// Owns the plot of pairs of horizontal bars as SVG.
#pragma once

#include <string>
#include <vector>

namespace mempool {

/// One measured value beside the value it is compared with.
struct BarPair {
  std::string label;
  double measured = 0;
  double reference = 0;
};

/// Give an SVG document. `unit` stands behind every value. Requires: at least one pair.
std::string bar_chart(const std::string& title, const std::string& unit,
                      const std::vector<BarPair>& pairs);

}  // namespace mempool
