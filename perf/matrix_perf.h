// SPDX-License-Identifier: Apache-2.0
// Owns the measurement of a case between every two of some hosts, each of which runs
// `mempool perf serve`. This process need not be on any of them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "mempool/status.h"
#include "perf/heat_map.h"
#include "perf/transfer_case.h"

namespace mempool {

/// What one ordered pair gave.
struct MatrixCell {
  std::string from;  // the measured side, which writes to the other or reads from it
  std::string to;
  Status refused;  // why there is no figure
  double gb_per_s = 0;
  nlohmann::ordered_json row;  // as of mempool perf transfer
};

struct Matrix {
  TransferCase measured;
  std::vector<std::string> names;
  std::vector<MatrixCell> cells;  // of names[0] to each other, then of names[1], ...
};

using OnPairRepeat =
    std::function<void(const std::string& from, const std::string& to, uint32_t repeat)>;

/// Check that `hosts`, name -> host:port, make a matrix. Errors: kInvalidArgument for fewer than
/// two, two names of one address, or an address that is none.
Status check_matrix_hosts(const std::map<std::string, std::string>& hosts);

/// Have each host measure the case towards each other one, a pair at a time. A pair that fails
/// keeps the reason in its cell. Requires: check_matrix_hosts().
Matrix run_matrix_perf(const std::map<std::string, std::string>& hosts,
                       const TransferCase& measured, const std::string& token,
                       const OnPairRepeat& on_repeat);

/// Give the medians as a table under a line that says what it is, and the reasons below.
std::string matrix_text(const Matrix& matrix);
HeatMap heat_map_of(const Matrix& matrix);

}  // namespace mempool
