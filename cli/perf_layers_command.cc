// SPDX-License-Identifier: Apache-2.0
// Owns `mempool perf layers`.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/App.hpp>
#include <nlohmann/json.hpp>

#include "cli/perf_command.h"
#include "perf/layer_perf.h"

namespace mempool {
namespace {

constexpr char kHelp[] =
    R"(A prefill that sleeps --layer-ms a layer hands over each layer of a prompt of 32
layers (Llama-3-8B's, 32 KiB a piece) as it ends. hidden = 1 - tail / alone: tail is
the time from the end of the last layer to the acknowledgement, alone that of the
same transfer in one go.

Example:
  mempool perf layers --transport tcp --tokens 1024 --layer-ms 5)";

struct LayerArguments {
  std::vector<std::string> transports = {"tcp"};
  std::vector<std::string> patterns = {"discrete", "aggregated"};
  uint32_t tokens = 1024;
  double layer_ms = 5;
  uint32_t repeat = 9;
  std::string verify = "sampled";
};

int run_layers(const LayerArguments& arguments, const std::string& json) {
  std::vector<LayerRow> rows;
  nlohmann::ordered_json json_rows = nlohmann::ordered_json::array();
  for (const std::string& transport : arguments.transports) {
    for (const std::string& pattern : arguments.patterns) {
      LayerCase measured;
      measured.transfer.transport = transport;
      measured.transfer.pattern = *parse_transfer_pattern(pattern);
      measured.transfer.repeat = arguments.repeat;
      measured.transfer.verify = arguments.verify;
      measured.tokens = arguments.tokens;
      measured.layer_time =
          std::chrono::microseconds(static_cast<int64_t>(arguments.layer_ms * 1000));
      ProgressLine progress;
      const std::string what = fmt::format("{} {}, repeat", transport, pattern);
      Result<LayerRow> row = run_layer_perf(
          measured, [&](uint32_t repeat) { progress.show(what, repeat, arguments.repeat); });
      if (!row.ok()) return fail(row.status());
      rows.push_back(std::move(*row));
      json_rows.push_back(to_json(rows.back()));
    }
  }
  return report(layer_table(rows).text(), json_rows, json);
}

}  // namespace

Command add_perf_layers_command(CLI::App& perf) {
  CLI::App* app =
      perf.add_subcommand("layers", "Measure what a prefill hides of a transfer by layer");
  auto arguments = std::make_shared<LayerArguments>();  // shared by the parser and run
  app->add_option("--transport", arguments->transports, "Transports; may be a list")
      ->delimiter(',')
      ->capture_default_str();
  app->add_option("--pattern", arguments->patterns, "How the pieces lie; may be a list")
      ->delimiter(',')
      ->check(CLI::IsMember({"discrete", "aggregated"}))
      ->capture_default_str();
  app->add_option("--tokens", arguments->tokens, "Tokens of the prompt")->capture_default_str();
  app->add_option("--layer-ms", arguments->layer_ms, "Time of one layer's prefill")
      ->check(CLI::Range(0.0, 10000.0))
      ->capture_default_str();
  app->add_option("--repeat", arguments->repeat, "Samples of each row")->capture_default_str();
  app->add_option("--verify", arguments->verify, "Seal checksums")
      ->check(CLI::IsMember({"off", "sampled", "always"}))
      ->capture_default_str();
  auto json = add_json_option(*app);
  app->footer(kHelp);
  return {app, [arguments, json] { return run_layers(*arguments, *json); }};
}

}  // namespace mempool
