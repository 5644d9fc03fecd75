// SPDX-License-Identifier: Apache-2.0
// Owns `mempool perf alloc`.
#include <memory>
#include <string>

#include <fmt/format.h>
#include <CLI/App.hpp>
#include <nlohmann/json.hpp>

#include "cli/perf_command.h"
#include "perf/alloc_perf.h"

namespace mempool {
namespace {

constexpr char kHelp[] =
    R"(Each repeat takes every block of the pool, batch by batch, and gives the batches
back in random order, through Agent in one process. ns a block.

Example:
  mempool perf alloc --batch 64 --blocks 65536 --repeat 15)";

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
  return report(table, nlohmann::ordered_json::array({row}), json);
}

}  // namespace

Command add_perf_alloc_command(CLI::App& perf) {
  CLI::App* app = perf.add_subcommand("alloc", "Measure alloc and free of blocks");
  auto options = std::make_shared<AllocPerfOptions>();  // shared by the parser and run
  app->add_option("--batch", options->batch, "Blocks a call")->capture_default_str();
  app->add_option("--blocks", options->blocks, "Blocks of the pool")->capture_default_str();
  app->add_option("--repeat", options->repeat, "Samples")->capture_default_str();
  auto json = add_json_option(*app);
  app->footer(kHelp);
  return {app, [options, json] { return run_alloc(*options, *json); }};
}

}  // namespace mempool
