// SPDX-License-Identifier: Apache-2.0
// Owns the columns of the tables and the names of the JSON's members.
#include "examples/demo/demo_report.h"

#include <numeric>
#include <optional>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "examples/demo/models.h"
#include "examples/demo/statistics.h"
#include "transport/gather_plan.h"

namespace mempool::demo {
namespace {

constexpr uint32_t kPaperTokens = 1024;

Result<uint64_t> paper_calls_of(BlockForm form) {
  const ContentSpec& content = model(kLlama2);
  const uint32_t count = kPaperTokens / content.tokens_per_block;
  PlanSegment segment;
  segment.blocks = count;
  Placement placement;
  placement.form = form;
  MEMPOOL_ASSIGN_OR_RETURN(segment.layout, make_layout(content, placement, count));
  std::vector<uint32_t> blocks(count);
  std::iota(blocks.begin(), blocks.end(), 0);
  const PlanSide side{std::span(&segment, 1), blocks};
  MEMPOOL_ASSIGN_OR_RETURN(const GatherPlan plan, GatherPlan::create(side, side));
  return plan.paper_calls();
}

std::string calls_cell(std::optional<uint64_t> calls, uint64_t requests) {
  if (!calls) return "not told";
  const double each =
      requests == 0 ? 0 : static_cast<double>(*calls) / static_cast<double>(requests);
  return fmt::format("{} ({:.1f})", *calls, each);
}

}  // namespace

Result<PaperCalls> count_paper_calls() {
  PaperCalls calls;
  MEMPOOL_ASSIGN_OR_RETURN(calls.discrete, paper_calls_of(BlockForm::kDiscrete));
  MEMPOOL_ASSIGN_OR_RETURN(calls.aggregated, paper_calls_of(BlockForm::kAggregated));
  return calls;
}

std::string gigabytes(uint64_t bytes) {
  return fmt::format("{:.2f}", static_cast<double>(bytes) / 1e9);
}

std::string report_text(std::span<const RowResult> rows, const PaperCalls& paper_calls) {
  std::string text;
  if (!rows.empty()) {
    text += fmt::format("{} over {}\n", rows.front().mode, rows.front().transport);
  }
  text += fmt::format("{:<12} {:<10} {:>8} {:>8} {:>8} {:>6} {:>6} {:>9} {:>9} {:>8}\n", "model",
                      "placement", "requests", "tokens", "moved", "saved", "hit", "p50", "p99",
                      "speed");
  text += fmt::format("{:<12} {:<10} {:>8} {:>8} {:>8} {:>6} {:>6} {:>9} {:>9} {:>8}\n", "", "", "",
                      "", "GB", "GB", "%", "ms", "ms", "GB/s");
  for (const RowResult& row : rows) {
    text += fmt::format(
        "{:<12} {:<10} {:>8} {:>8} {:>8} {:>6} {:>6.1f} {:>9.2f} {:>9.2f} {:>8.2f}  {}\n",
        row.model, row.placement, row.requests, row.tokens, gigabytes(row.bytes_moved),
        gigabytes(row.bytes_saved), 100 * row.hit_ratio(), percentile(row.latencies_ms, 0.5),
        percentile(row.latencies_ms, 0.99), row.gb_per_s(),
        row.verified ? "verified" : "NOT VERIFIED");
  }
  text += fmt::format("\n{:<12} {:<10} {:>18} {:>18} {:>16} {:>16}\n", "calls", "(each)",
                      "paper_calls", "run_pair_calls", "network_calls", "system_calls");
  for (const RowResult& row : rows) {
    text += fmt::format(
        "{:<12} {:<10} {:>18} {:>18} {:>16} {:>16}\n", row.model, row.placement,
        calls_cell(row.paper_calls, row.requests), calls_cell(row.run_pair_calls, row.requests),
        calls_cell(row.network_calls, row.requests), calls_cell(row.system_calls, row.requests));
  }
  text += fmt::format(
      "\nspeed: bytes moved / time inside transfer_with_insert, from the call to the "
      "acknowledgement;\np50 and p99 are of that time. saved: blocks that the decode agent had. "
      "hit: prompt tokens that\nthe prefill agent had. verified: every byte was compared in the "
      "decode process. 1 GB = 10^9 bytes.\n"
      "{} tokens of {} are {} calls discrete and {} aggregated, before merging.\n",
      kPaperTokens, kLlama2, paper_calls.discrete, paper_calls.aggregated);
  for (const RowResult& row : rows) {
    if (row.skipped == 0) continue;
    text += fmt::format("{} {}: prompts skipped: {}, longer than the pool; see --pool-bytes.\n",
                        row.model, row.placement, row.skipped);
  }
  return text;
}

std::string report_json(std::span<const RowResult> rows, const PaperCalls& paper_calls) {
  nlohmann::json runs = nlohmann::json::array();
  for (const RowResult& row : rows) {
    runs.push_back({{"transport", row.transport},
                    {"mode", row.mode},
                    {"placement", row.placement},
                    {"model", row.model},
                    {"requests", row.requests},
                    {"tokens", row.tokens},
                    {"hit_ratio", row.hit_ratio()},
                    {"bytes_moved", row.bytes_moved},
                    {"bytes_saved", row.bytes_saved},
                    {"gb_per_s", row.gb_per_s()},
                    {"paper_calls", row.paper_calls},
                    {"run_pair_calls", row.run_pair_calls},
                    {"network_calls", row.network_calls},
                    {"system_calls", row.system_calls ? nlohmann::json(*row.system_calls)
                                                      : nlohmann::json(nullptr)},
                    {"latency_ms",
                     {{"p50", percentile(row.latencies_ms, 0.5)},
                      {"p99", percentile(row.latencies_ms, 0.99)}}},
                    {"verified", row.verified}});
  }
  const nlohmann::json document = {
      {"runs", runs},
      {"paper_calls_1024_tokens",
       {{"discrete", paper_calls.discrete}, {"aggregated", paper_calls.aggregated}}}};
  return document.dump(2) + "\n";
}

}  // namespace mempool::demo
