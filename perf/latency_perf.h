// SPDX-License-Identifier: Apache-2.0
// Owns the measurement of single calls beside the bare round trips of the same bytes.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "mempool/status.h"
#include "perf/measure.h"

namespace mempool {

struct LatencyCase {
  uint32_t repeat = 1000;
  uint32_t blocks = 64;           // of one alloc by an attached engine
  std::string transport = "tcp";  // of the transfer
};

/// Microseconds of one call and of its bare round trip, which take turns.
struct LatencyRow {
  std::string call;
  uint64_t request_bytes = 0;  // that the bare round trip sends,
  uint64_t answer_bytes = 0;   // and gets
  double call_p50_us = 0;
  double call_p99_us = 0;
  double bare_p50_us = 0;
  double bare_p99_us = 0;
};

/// Measure an attached engine's alloc, and transfer_with_insert of one block of Llama-3-8B's shape,
/// between processes of this host. Requires: no other thread runs. Errors: those of the calls.
Result<std::vector<LatencyRow>> run_latency_perf(
    const LatencyCase& measured, const std::function<void(uint32_t done)>& on_repeat);

nlohmann::ordered_json to_json(const LatencyRow& row);
TextTable latency_table(const std::vector<LatencyRow>& rows);

}  // namespace mempool
