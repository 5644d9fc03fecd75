// SPDX-License-Identifier: Apache-2.0
// Owns `mempool replay`.
#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/App.hpp>
#include <nlohmann/json.hpp>

#include "cli/perf_command.h"
#include "core/check.h"
#include "core/log.h"
#include "mempool/types.h"
#include "perf/line_chart.h"
#include "perf/replay.h"

namespace mempool {
namespace {

constexpr char kHelp[] =
    R"(Each request is matched, has room made, is inserted and let go before the next one
comes; only prompts are inserted. The cells are the percentage of all prompt tokens that were found.
endless never evicts; belady knows the future and is what no policy can exceed.

Forms, told apart by their first characters:
  Mooncake   {"timestamp": 0, "input_length": 700, "output_length": 5, "hash_ids": [0, 14]} a line;
             blocks are the ids, of 512 tokens
  token ids  {"tokens": [1, 2, 3]} or [1, 2, 3] a line; "timestamp" in ms may be there
  ShareGPT   [{"conversations": [{"from": "human", "value": "..."}, ...]}, ...]; it has text, and a
             stand-in for a tokenizer makes a token of each 4 bytes

Policies: lru, s3fifo, lfu, ttl, each also with +second_hit.

Example:
  mempool replay conversation_trace.jsonl --capacities 1000,5000,20000 --plot hits.svg)";

constexpr std::array kCapacityShares = {0.01, 0.02, 0.05, 0.1, 0.2, 0.5};  // of the distinct blocks

struct ReplayArguments {
  std::string file;
  std::vector<uint32_t> capacities;
  std::vector<std::string> policies = {"lru", "s3fifo", "lfu", "ttl", "lru+second_hit"};
  TraceOptions trace;
  uint32_t ttl_ms = 600000;
  std::string plot;
};

Result<std::vector<uint32_t>> capacities_of(const ReplayArguments& arguments,
                                            const RequestTrace& trace) {
  std::vector<uint32_t> capacities = arguments.capacities;
  if (capacities.empty()) {
    for (const double share : kCapacityShares) {
      capacities.push_back(std::max(1u, static_cast<uint32_t>(share * trace.distinct_blocks)));
    }
  }
  for (const uint32_t capacity : capacities) {
    if (capacity > 0 && capacity <= BlockAddress::kIndexMax) continue;
    return invalid_argument(fmt::format("--capacities {}: a pool has 1 to {} blocks", capacity,
                                        BlockAddress::kIndexMax));
  }
  std::ranges::sort(capacities);
  const auto repeated = std::ranges::unique(capacities);
  capacities.erase(repeated.begin(), repeated.end());
  return capacities;
}

Result<std::vector<ReplayRow>> replay_all(const ReplayArguments& arguments,
                                          const std::vector<ReplayPolicy>& policies,
                                          const RequestTrace& trace) {
  MEMPOOL_ASSIGN_OR_RETURN(const auto capacities, capacities_of(arguments, trace));
  ProgressLine progress;
  std::vector<ReplayRow> rows;
  for (const uint32_t capacity : capacities) {
    for (const ReplayPolicy& policy : policies) {
      const std::string what = fmt::format("{} at {} blocks: request", policy.name, capacity);
      const ReplayOptions options = {
          capacity, std::chrono::milliseconds(arguments.ttl_ms),
          [&](size_t request) { progress.show(what, request, trace.requests.size()); }};
      MEMPOOL_ASSIGN_OR_RETURN(ReplayRow row, replay_trace(trace, policy, options));
      rows.push_back(std::move(row));
    }
    rows.push_back(belady_bound(trace, capacity));
    rows.push_back(endless_bound(trace));
    rows.back().capacity = capacity;
  }
  return rows;
}

/// A row for each capacity, a column for each policy.
TextTable replay_table(const std::vector<ReplayRow>& rows) {
  std::vector<std::string> headings = {"blocks"};
  const size_t columns =
      static_cast<size_t>(std::ranges::count(rows, rows.front().capacity, &ReplayRow::capacity));
  for (size_t i = 0; i < columns; ++i) headings.push_back(rows[i].policy + " %");
  TextTable table(headings);
  for (size_t at = 0; at < rows.size(); at += columns) {
    std::vector<std::string> cells = {fmt::format("{}", rows[at].capacity)};
    for (size_t i = 0; i < columns; ++i) {
      cells.push_back(fmt::format("{:.2f}", 100 * rows[at + i].hit_ratio));
    }
    table.add_row(std::move(cells));
  }
  return table;
}

nlohmann::ordered_json replay_json(const std::vector<ReplayRow>& rows, const RequestTrace& trace) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const ReplayRow& row : rows) {
    json.push_back({{"form", trace.form},
                    {"block_tokens", trace.block_tokens},
                    {"requests", trace.requests.size()},
                    {"tokens", trace.tokens},
                    {"capacity_blocks", row.capacity},
                    {"policy", row.policy},
                    {"hit_tokens", row.hit_tokens},
                    {"hit_ratio", row.hit_ratio},
                    {"evicted_blocks", row.evicted}});
  }
  return json;
}

std::string replay_plot(const std::vector<ReplayRow>& rows, const RequestTrace& trace) {
  LineChart chart;
  chart.title =
      fmt::format("{} requests ({}), {} distinct blocks of {} tokens", trace.requests.size(),
                  trace.form, trace.distinct_blocks, trace.block_tokens);
  chart.x_label = "capacity, blocks";
  chart.y_label = "hit tokens, %";
  for (const ReplayRow& row : rows) {
    auto line = std::ranges::find(chart.lines, row.policy, &ChartLine::label);
    if (line == chart.lines.end()) line = chart.lines.insert(line, {row.policy, {}});
    line->points.emplace_back(row.capacity, 100 * row.hit_ratio);
  }
  return line_chart(chart);
}

int run_replay(const ReplayArguments& arguments, const std::string& json) {
  configure_log(LogLevel::kWarning, LogFormat::kText);  // the report stands alone
  std::vector<ReplayPolicy> policies;
  for (const std::string& name : arguments.policies) {
    Result<ReplayPolicy> policy = parse_replay_policy(name);
    if (!policy.ok()) return fail(policy.status());
    policies.push_back(std::move(*policy));
  }
  const Result<RequestTrace> trace = read_request_trace_file(arguments.file, arguments.trace);
  if (!trace.ok()) return fail(trace.status());
  const Result<std::vector<ReplayRow>> rows = replay_all(arguments, policies, *trace);
  if (!rows.ok()) return fail(rows.status());
  if (json != "-") {
    fmt::print("{} requests ({}), {} tokens, {} distinct blocks of {}\n", trace->requests.size(),
               trace->form, trace->tokens, trace->distinct_blocks, trace->block_tokens);
  }
  if (!arguments.plot.empty()) {
    const Status written = write_text(arguments.plot, replay_plot(*rows, *trace));
    if (!written.ok()) return fail(written);
  }
  return report(replay_table(*rows).text(), replay_json(*rows, *trace), json);
}

}  // namespace

Command add_replay_command(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand("replay", "Replay a trace against the cache's policies");
  auto arguments = std::make_shared<ReplayArguments>();  // shared by the parser and run
  app->add_option("file", arguments->file, "Trace")->required()->type_name("FILE");
  app->add_option("--capacities", arguments->capacities,
                  "Blocks of the pool, as a list; else shares of the trace's distinct blocks")
      ->delimiter(',');
  app->add_option("--policies", arguments->policies, "Policies, as a list")
      ->delimiter(',')
      ->capture_default_str();
  app->add_option("--requests", arguments->trace.requests, "The first so many; else all");
  app->add_option("--block-tokens", arguments->trace.block_tokens,
                  "Tokens of a block; Mooncake's has its own")
      ->capture_default_str();
  app->add_option("--conversations", arguments->trace.conversations,
                  "ShareGPT: conversations under way at once, taking turns")
      ->capture_default_str();
  app->add_option("--ttl-ms", arguments->ttl_ms, "Of ttl: how long an unused block stays")
      ->capture_default_str();
  app->add_option("--plot", arguments->plot, "Draw hits over capacity as SVG")->type_name("FILE");
  auto json = add_json_option(*app);
  app->footer(kHelp);
  return {app, [arguments, json] { return run_replay(*arguments, *json); }};
}

}  // namespace mempool
