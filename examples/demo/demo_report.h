// SPDX-License-Identifier: Apache-2.0
// Owns the demo's results as people and as programs read them.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "examples/demo/demo_row.h"
#include "mempool/status.h"

namespace mempool::demo {

/// Pieces that 1,024 tokens of Llama-2-13B make, as the gather plan counts them: what the paper
/// calls network calls.
struct PaperCalls {
  uint64_t discrete = 0;
  uint64_t aggregated = 0;
};
Result<PaperCalls> count_paper_calls();

/// Give bytes in units of 10^9, with two digits behind the point.
std::string gigabytes(uint64_t bytes);

/// Give the rows, model after model, as two tables, of what moved and of the calls it took, and
/// what the words mean.
std::string report_text(std::span<const RowResult> rows, const PaperCalls& paper_calls);
/// Give the rows as one JSON document. A row that was refused says why in a member `refused`.
std::string report_json(std::span<const RowResult> rows, const PaperCalls& paper_calls);

}  // namespace mempool::demo
