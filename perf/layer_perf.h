// SPDX-License-Identifier: Apache-2.0
// Owns the measurement of how much of a transfer hides behind a prefill that goes on layer by
// layer.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>

#include "mempool/status.h"
#include "perf/measure.h"
#include "perf/transfer_case.h"

namespace mempool {

/// Thread: confined.
struct LayerCase {
  TransferCase transfer;  // pattern discrete or aggregated, op write
  uint32_t tokens = 1024;
  std::chrono::microseconds layer_time{5000};
};

/// Milliseconds over the repeats.
struct LayerRow {
  LayerCase measured;
  uint32_t layers = 0;
  uint64_t bytes = 0;
  Spread alone_ms;    // the same transfer by request, from the call to the acknowledgement
  Spread tail_ms;     // by layer: from the end of the last layer to the acknowledgement
  double hidden = 0;  // 1 - tail / alone, of the medians
};

/// Measure between two processes; transfers by layer and by request take turns, after one of each
/// that is not counted but checked byte by byte. Requires: no other thread runs.
/// Errors: those of the two ends; kCorruption when the wrong bytes arrived.
Result<LayerRow> run_layer_perf(const LayerCase& measured,
                                const std::function<void(uint32_t repeat)>& on_repeat);

nlohmann::ordered_json to_json(const LayerRow& row);
TextTable layer_table(const std::vector<LayerRow>& rows);

}  // namespace mempool
