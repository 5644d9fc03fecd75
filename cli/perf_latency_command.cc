// SPDX-License-Identifier: Apache-2.0
// Owns `mempool perf latency`.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <CLI/App.hpp>
#include <nlohmann/json.hpp>

#include "cli/perf_command.h"
#include "perf/latency_perf.h"

namespace mempool {
namespace {

constexpr char kHelp[] =
    R"(Two calls, each beside bare blocking round trips of the same bytes with a process of
its own, in turns: alloc by an attached engine beside one over a Unix socket, and
transfer_with_insert of one block of 2 MiB beside two over TCP on loopback, one of a
control frame's size and one of the block's. The caller stays on one core, and all
who answer it on another, so that a wake-up costs the call and the bare one the same.

Example:
  mempool perf latency --repeat 1000 --blocks 64)";

int run_latency(const LatencyCase& measured, const std::string& json) {
  ProgressLine progress;
  const Result<std::vector<LatencyRow>> rows = run_latency_perf(
      measured, [&](uint32_t done) { progress.show("repeat", done, measured.repeat); });
  if (!rows.ok()) return fail(rows.status());
  nlohmann::ordered_json json_rows = nlohmann::ordered_json::array();
  for (const LatencyRow& row : *rows) json_rows.push_back(to_json(row));
  return report(latency_table(*rows).text(), json_rows, json);
}

}  // namespace

Command add_perf_latency_command(CLI::App& perf) {
  CLI::App* app = perf.add_subcommand("latency", "Measure single calls beside bare round trips");
  auto measured = std::make_shared<LatencyCase>();  // shared by the parser and run
  app->add_option("--repeat", measured->repeat, "Samples of each row")->capture_default_str();
  app->add_option("--blocks", measured->blocks, "Blocks of one alloc")->capture_default_str();
  app->add_option("--transport", measured->transport, "Transport of the transfer")
      ->capture_default_str();
  auto json = add_json_option(*app);
  app->footer(kHelp);
  return {app, [measured, json] { return run_latency(*measured, *json); }};
}

}  // namespace mempool
