// SPDX-License-Identifier: Apache-2.0
// Owns `mempool perf matrix`.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/App.hpp>
#include <nlohmann/json.hpp>

#include "cli/perf_command.h"
#include "cli/transfer_arguments.h"
#include "core/check.h"
#include "core/config.h"
#include "perf/matrix_perf.h"

namespace mempool {
namespace {

constexpr char kHelp[] =
    R"(Every host of FILE runs mempool perf serve; this command may run on any machine that
reaches them. FILE is one of settings: its [peers] are the hosts, by the addresses that they know
each other by, and its token is theirs too:

  [agent]
  token_file = "/run/mempool.token"
  [peers]
  rack1 = "10.0.0.7:7171"
  rack2 = "10.0.0.8:7171"

One pair is measured at a time, both ways: the host named left is the measured side of mempool perf
transfer, which writes to the one named above, or reads from it. A table for each case; a pair that
fails has its reason below. The exit code is 1 when no pair gave a figure.

Examples:
  mempool perf matrix --hosts hosts.toml
  mempool perf matrix --hosts hosts.toml --transports tcp,shm --piece-bytes 32KiB --plot matrix.svg
  mempool perf matrix --hosts hosts.toml --op read --json rows.json)";

struct MatrixArguments {
  TransferArguments transfer;
  SettingArguments settings;
  std::string plot;
};

struct MatrixPlan {
  std::vector<TransferCase> cases;
  ConfigTable hosts;
  std::string token;
};

Result<MatrixPlan> plan_of(const MatrixArguments& arguments) {
  MatrixPlan plan;
  MEMPOOL_ASSIGN_OR_RETURN(plan.cases, cases_of(arguments.transfer));
  MEMPOOL_ASSIGN_OR_RETURN(const Config config, load_settings(arguments.settings));
  MEMPOOL_ASSIGN_OR_RETURN(plan.token, token_of(config));
  plan.hosts = config.get_table("peers");
  MEMPOOL_RETURN_IF_ERROR(check_matrix_hosts(plan.hosts).with_context(arguments.settings.file));
  return plan;
}

/// Errors: kCorruption where the wrong bytes arrived; the first refusal when there is no figure.
Status verdict_on(const std::vector<Matrix>& matrices) {
  Status first;
  bool measured = false;
  for (const Matrix& matrix : matrices) {
    for (const MatrixCell& cell : matrix.cells) {
      if (cell.refused.code() == StatusCode::kCorruption) return cell.refused;
      if (first.ok()) first = cell.refused;
      measured |= cell.refused.ok();
    }
  }
  if (measured) return Status();
  return unavailable(fmt::format("no pair could be measured: {}", first.message()));
}

int run_matrix(const MatrixArguments& arguments, const std::string& json) {
  const Result<MatrixPlan> plan = plan_of(arguments);
  if (!plan.ok()) return fail(plan.status());
  std::vector<Matrix> matrices;
  std::vector<HeatMap> maps;
  std::string text;
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const TransferCase& measured : plan->cases) {
    ProgressLine progress;
    matrices.push_back(run_matrix_perf(
        plan->hosts, measured, plan->token,
        [&](const std::string& from, const std::string& to, uint32_t repeat) {
          progress.show(fmt::format("{}: {} to {}, repeat", describe(measured), from, to), repeat,
                        measured.repeat);
        }));
    text += (text.empty() ? "" : "\n") + matrix_text(matrices.back());
    maps.push_back(heat_map_of(matrices.back()));
    for (const MatrixCell& cell : matrices.back().cells) rows.push_back(cell.row);
  }
  const int reported = report(text, rows, json);
  if (reported != kExitOk) return reported;
  const Status verdict = verdict_on(matrices);
  if (!verdict.ok()) return fail(verdict);
  if (arguments.plot.empty()) return kExitOk;
  const Status written = write_text(arguments.plot, heat_maps(maps));
  return written.ok() ? kExitOk : fail(written);
}

}  // namespace

Command add_perf_matrix_command(CLI::App& perf) {
  CLI::App* app = perf.add_subcommand("matrix", "Measure transfers between every two of n hosts");
  auto arguments = std::make_shared<MatrixArguments>();  // shared by the parser and run
  arguments->transfer.piece_bytes = {"32KiB"};
  app->add_option("--hosts", arguments->settings.file, "TOML file whose [peers] are the hosts")
      ->type_name("FILE")
      ->required();
  add_transfer_options(*app, arguments->transfer);
  app->add_option("--plot", arguments->plot, "Draw a heat map of each table as SVG")
      ->type_name("FILE")
      ->check(check_output_file);
  auto json = add_json_option(*app);
  app->footer(kHelp);
  return {app, [arguments, json] { return run_matrix(*arguments, *json); }};
}

}  // namespace mempool
