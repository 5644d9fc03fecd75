// SPDX-License-Identifier: Apache-2.0
// Owns `mempool perf`, and how its measurements report.
#include "cli/perf_command.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <CLI/App.hpp>
#include <nlohmann/json.hpp>

#include "agent/agent_config.h"
#include "core/check.h"
#include "core/config.h"
#include "core/log.h"

namespace mempool {
namespace {

constexpr char kHelp[] =
    R"(Each prints a table; --json FILE writes the rows too, and - stands for standard
output. Spreads are written min/median/max.

Examples:
  mempool perf alloc
  mempool perf index --json index.json
  mempool perf latency
  mempool perf layers --tokens 1024 --layer-ms 5
  mempool perf transfer --piece-bytes 4KiB,32KiB,160KiB --verify off,always
  mempool perf serve --config perf.toml                          # on one host, and on another
  mempool perf transfer --to 10.0.0.7:7171 --config perf.toml
  mempool perf matrix --hosts hosts.toml --plot matrix.svg)";

}  // namespace

Result<std::string> token_of(const Config& config) {
  return shared_token(config.get_string("agent.token"), config.get_string("agent.token_file"));
}

Result<TransferSite> site_of(const Config& config) {
  TransferSite site;
  MEMPOOL_ASSIGN_OR_RETURN(site.token, token_of(config));
  site.transport_options = transport_options(config);
  return site;
}

std::string check_output_file(const std::string& path) {
  return path == "-" ? "" : std::string(check_writable(path).message());
}

std::shared_ptr<std::string> add_json_option(CLI::App& app) {
  auto path = std::make_shared<std::string>();  // shared by the parser and run
  app.add_option("--json", *path, "Write the rows as JSON; - for standard output")
      ->type_name("FILE")
      ->check(check_output_file);
  return path;
}

int report(const std::string& text, const nlohmann::ordered_json& rows, const std::string& json) {
  if (json != "-") fmt::print("{}", text);
  if (json.empty()) return kExitOk;
  const Status written = write_rows(json, rows);
  return written.ok() ? kExitOk : fail(written);
}

Command add_perf_command(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand(
      "perf", "Measure alloc, the index, single calls, or transfers, here or between hosts");
  app->require_subcommand(1);
  app->footer(kHelp);
  std::vector<Command> commands = {add_perf_alloc_command(*app),   add_perf_index_command(*app),
                                   add_perf_latency_command(*app), add_perf_layers_command(*app),
                                   add_perf_matrix_command(*app),  add_perf_serve_command(*app),
                                   add_perf_transfer_command(*app)};
  return {app, [commands = std::move(commands)] {
            configure_log(LogLevel::kWarning, LogFormat::kText);  // the report stands alone
            const auto named = std::ranges::find_if(
                commands, [](const Command& command) { return command.app->parsed(); });
            return named->run();
          }};
}

}  // namespace mempool
