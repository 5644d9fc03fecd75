// SPDX-License-Identifier: Apache-2.0
// Owns `mempool perf alloc`.
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/App.hpp>
#include <nlohmann/json.hpp>

#include "cli/perf_command.h"
#include "perf/alloc_perf.h"
#include "perf/churn_perf.h"

namespace mempool {
namespace {

constexpr char kHelp[] =
    R"(Each repeat takes every block of the pool, batch by batch, and gives the batches
back in random order, through Agent in one process. ns a block.

--churn measures fragmentation instead: a pool is filled to nine tenths; so many per cent of its
blocks leave from the ends of random requests, and others come; then a request of 1,024 tokens of
Llama-2-13B is sent to a fresh pool, or to one of equal churn. Run pairs are the ranges contiguous
at both ends, of our allocator and of a plain list that gives out what was freed last.

Examples:
  mempool perf alloc --batch 64 --blocks 65536 --repeat 15
  mempool perf alloc --churn 0,50,95)";

int run_alloc(const AllocPerfOptions& options, const std::string& json) {
  const Result<AllocPerfResult> result = run_alloc_perf(options);
  if (!result.ok()) return fail(result.status());
  TextTable table({"batch", "blocks", "alloc ns", "free ns", "alloc+free ns"});
  table.add_row({fmt::format("{}", options.batch), fmt::format("{}", result->blocks),
                 to_text(result->alloc_ns, 1), to_text(result->free_ns, 1),
                 to_text(result->alloc_free_ns, 1)});
  const nlohmann::ordered_json row = {{"batch", options.batch},
                                      {"blocks", result->blocks},
                                      {"repeat", options.repeat},
                                      {"alloc_ns", to_json(result->alloc_ns)},
                                      {"free_ns", to_json(result->free_ns)},
                                      {"alloc_free_ns", to_json(result->alloc_free_ns)}};
  return report(table.text(), nlohmann::ordered_json::array({row}), json);
}

int run_churn(const ChurnPerfOptions& options, const std::string& json) {
  const Result<std::vector<ChurnPerfRow>> measured = run_churn_perf(options);
  if (!measured.ok()) return fail(measured.status());
  TextTable table(
      {"churn %", "target", "discrete", "LIFO discrete", "aggregated", "LIFO aggregated"});
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const ChurnPerfRow& row : *measured) {
    const std::string target = row.churned_target ? "churned" : "fresh";
    table.add_row({fmt::format("{}", row.churn), target, to_text(row.ours.discrete, 0),
                   to_text(row.lifo.discrete, 0), to_text(row.ours.aggregated, 0),
                   to_text(row.lifo.aggregated, 0)});
    rows.push_back({{"churn_percent", row.churn},
                    {"target", target},
                    {"blocks", options.blocks},
                    {"repeat", options.repeat},
                    {"run_pair_calls_discrete", to_json(row.ours.discrete)},
                    {"lifo_run_pair_calls_discrete", to_json(row.lifo.discrete)},
                    {"run_pair_calls_aggregated", to_json(row.ours.aggregated)},
                    {"lifo_run_pair_calls_aggregated", to_json(row.lifo.aggregated)}});
  }
  return report(table.text(), rows, json);
}

}  // namespace

Command add_perf_alloc_command(CLI::App& perf) {
  CLI::App* app = perf.add_subcommand("alloc", "Measure alloc and free of blocks");
  auto options = std::make_shared<AllocPerfOptions>();  // shared by the parser and run
  app->add_option("--batch", options->batch, "Blocks a call")->capture_default_str();
  app->add_option("--blocks", options->blocks, "Blocks of the pool")->capture_default_str();
  app->add_option("--repeat", options->repeat, "Samples")->capture_default_str();
  auto churn = std::make_shared<std::vector<uint32_t>>();  // likewise
  app->add_option("--churn", *churn, "Per cent of the blocks turned over, as a list")
      ->delimiter(',');
  auto json = add_json_option(*app);
  app->footer(kHelp);
  return {app, [options, churn, json] {
            if (churn->empty()) return run_alloc(*options, *json);
            return run_churn({*churn, options->blocks, options->repeat}, *json);
          }};
}

}  // namespace mempool
