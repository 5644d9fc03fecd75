// SPDX-License-Identifier: Apache-2.0
// Owns the columns of the tables and the names of the JSON's members.
#include "examples/demo/demo_report.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <string_view>
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
constexpr std::string_view kEngineNote =
    "memory: the KV lay in the engines' own tensors, which their agents had adopted. It went from "
    "where\nprefill had filled it to the places that decode had claimed, was checked there by "
    "decode's own\npointers, and was inserted in place.\n";

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

/// What stands at the start of a row of either table.
std::string way_cells(std::string_view transport, std::string_view mode,
                      std::string_view placement) {
  return fmt::format("{:<9}  {:<10}  {:<10}", transport, mode, placement);
}

/// Of rows of one model: what moved, and how fast.
std::string speeds_text(std::span<const RowResult> rows) {
  const auto line = [](const auto&... cells) {
    return fmt::format(" {:>8} {:>7} {:>6} {:>6} {:>5} {:>8} {:>8} {:>6}", cells...);
  };
  std::string text = fmt::format("{}\n", rows.front().model);
  text += way_cells("transport", "mode", "placement") +
          line("requests", "tokens", "moved", "saved", "hit", "p50", "p99", "speed") + "\n";
  text += way_cells("", "", "") + line("", "", "GB", "GB", "%", "ms", "ms", "GB/s") + "\n";
  for (const RowResult& row : rows) {
    text += way_cells(row.transport, row.mode, row.placement);
    if (!row.refused.empty()) {
      text += fmt::format("  refused: {}\n", row.refused);
      continue;
    }
    const auto two_digits = [](double value) { return fmt::format("{:.2f}", value); };
    text += line(row.requests, row.tokens, gigabytes(row.bytes_moved), gigabytes(row.bytes_saved),
                 fmt::format("{:.1f}", 100 * row.hit_ratio()),
                 two_digits(percentile(row.latencies_ms, 0.5)),
                 two_digits(percentile(row.latencies_ms, 0.99)), two_digits(row.gb_per_s()));
    text += row.verified ? "  verified\n" : "  NOT VERIFIED\n";
  }
  return text;
}

/// Of rows of one model: the calls that it took; nothing where all were refused.
std::string calls_text(std::span<const RowResult> rows) {
  const auto line = [](const auto&... cells) {
    return fmt::format(" {:>15} {:>15} {:>14} {:>14}\n", cells...);
  };
  const auto refused = [](const RowResult& row) { return !row.refused.empty(); };
  if (std::ranges::all_of(rows, refused)) return {};
  std::string text = "\n" + way_cells("calls", "(each)", "") +
                     line("paper_calls", "run_pair_calls", "network_calls", "system_calls");
  for (const RowResult& row : rows) {
    if (refused(row)) continue;
    text += way_cells(row.transport, row.mode, row.placement) +
            line(calls_cell(row.paper_calls, row.requests),
                 calls_cell(row.run_pair_calls, row.requests),
                 calls_cell(row.network_calls, row.requests),
                 calls_cell(row.system_calls, row.requests));
  }
  return text;
}

/// What the words of the tables mean. `engine`: the KV lay in the engines' own tensors.
std::string notes_text(const PaperCalls& paper_calls, bool engine) {
  return fmt::format(
      "{}speed: bytes moved / time from the call of {} to the acknowledgement. p50, p99:\n"
      "of that time. A by_layer transfer spans the filling of the layers, so its speed counts that "
      "time\ntoo; its p50 and p99 are from the end of the last layer to the acknowledgement.\n"
      "A row's first transfer connects, too; over shm that maps the peer's memory.\n"
      "saved: blocks that the decode agent had. hit: prompt tokens that the prefill agent had. "
      "verified:\nevery byte was compared in the decode process. 1 GB = 10^9 bytes.\n"
      "{} tokens of {} are {} calls discrete and {} aggregated, before merging.\n",
      engine ? kEngineNote : "", engine ? "transfer" : "transfer_with_insert", kPaperTokens,
      kLlama2, paper_calls.discrete, paper_calls.aggregated);
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
  for (std::span<const RowResult> rest = rows; !rest.empty();) {
    const auto end = std::ranges::find_if(
        rest, [&](const RowResult& row) { return row.model != rest.front().model; });
    const auto group = rest.first(static_cast<size_t>(end - rest.begin()));
    text += speeds_text(group) + calls_text(group) + "\n";
    rest = rest.subspan(group.size());
  }
  const bool engine = !rows.empty() && rows.front().memory == "engine";
  text += notes_text(paper_calls, engine);
  for (const RowResult& row : rows) {
    if (row.skipped == 0) continue;
    text += fmt::format("{}: prompts skipped: {}, longer than the pool; see --pool-bytes.\n",
                        name_of(row), row.skipped);
  }
  return text;
}

std::string report_json(std::span<const RowResult> rows, const PaperCalls& paper_calls) {
  nlohmann::json runs = nlohmann::json::array();
  for (const RowResult& row : rows) {
    runs.push_back({{"transport", row.transport},
                    {"mode", row.mode},
                    {"placement", row.placement},
                    {"memory", row.memory},
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
    if (!row.refused.empty()) runs.back()["refused"] = row.refused;
  }
  const nlohmann::json document = {
      {"runs", runs},
      {"paper_calls_1024_tokens",
       {{"discrete", paper_calls.discrete}, {"aggregated", paper_calls.aggregated}}}};
  return document.dump(2) + "\n";
}

}  // namespace mempool::demo
