// SPDX-License-Identifier: Apache-2.0
// Owns the measurement of one transfer case between two processes, of one host or of two, beside a
// bare stream or a bare memcpy.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "mempool/status.h"
#include "perf/measure.h"
#include "perf/service_link.h"
#include "perf/transfer_case.h"

namespace mempool {

/// One measured row. Times and counts are medians over the repeats.
struct TransferRow {
  TransferCase measured;
  Status refused;  // why there is nothing below but the pieces; ok for a row that was measured
  uint64_t pieces = 0;
  Spread gb_per_s;        // 1e9 bytes, from the call to the acknowledgement
  double connect_ms = 0;  // once, before anything is counted: dial, prove, map and populate
  double prepare_us = 0;
  double post_us = 0;
  double complete_us = 0;
  double cpu_s_per_gb = 0;  // of both processes
  uint64_t paper_calls = 0;
  uint64_t run_pair_calls = 0;
  uint64_t network_calls = 0;
  std::optional<uint64_t> system_calls;  // of the measured side's endpoint, as the next two
  uint64_t doorbells = 0;                // of a NIC; 0 of transports without one
  uint64_t completions = 0;
  Spread bare_gb_per_s;
  double bare_cpu_s_per_gb = 0;
  double ratio_to_bare = 0;  // of the medians
};

using OnRepeat = std::function<void(uint32_t repeat)>;

/// Measure a case between this process and a fork of it. Repeats and bare repeats take turns, after
/// one of each that is not counted but checked byte by byte. Requires: no other thread runs.
/// Errors: those of the two ends; kCorruption when the wrong bytes arrived.
Result<TransferRow> run_transfer_perf(const TransferCase& measured, const TransferSite& site,
                                      const OnRepeat& on_repeat);
/// Likewise, between this process and the service that the link leads to.
Result<TransferRow> run_transfer_perf(const TransferCase& measured, ServiceLink& target,
                                      const OnRepeat& on_repeat);
/// Give the row of a case that could not be measured.
TransferRow refused_row(const TransferCase& measured, const Status& why);

nlohmann::ordered_json to_json(const TransferRow& row);
/// Requires of both: at least one row. Columns for the transport and the refusals come where rows
/// differ in them.
TextTable transfer_table(const std::vector<TransferRow>& rows);
/// Give the medians beside the bare ones as SVG, without the refused. Requires: one was measured.
std::string transfer_plot(const std::vector<TransferRow>& rows);

}  // namespace mempool
