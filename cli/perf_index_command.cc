// SPDX-License-Identifier: Apache-2.0
// Owns `mempool perf index`.
#include <memory>
#include <string>

#include <fmt/format.h>
#include <CLI/App.hpp>
#include <CLI/Validators.hpp>
#include <nlohmann/json.hpp>

#include "cli/perf_command.h"
#include "perf/index_perf.h"

namespace mempool {
namespace {

constexpr char kHelp[] =
    R"(The prompts have 2,000 to 8,000 tokens; they begin with one of 20 system prompts
(chosen by Zipf) or, in 40 of 100 cases, with a whole earlier prompt. Blocks are 16 tokens, 64
bytes. match gives addresses and pins; unpin is timed apart. us for 4,096 tokens.

Example:
  mempool perf index --sequences 1000 --seed 1 --repeat 5)";

int run_index(const IndexPerfOptions& options, const std::string& json) {
  const Result<IndexPerfResult> result = run_index_perf(options);
  if (!result.ok()) return fail(result.status());
  TextTable table({"sequences", "blocks", "unique", "verify", "insert us", "match us", "unpin us",
                   "bytes/block"});
  table.add_row({fmt::format("{}", options.sequences), fmt::format("{}", result->blocks),
                 fmt::format("{}", result->unique_blocks), options.verify,
                 to_text(result->insert_us, 2), to_text(result->match_us, 2),
                 to_text(result->unpin_us, 2),
                 fmt::format("{:.1f}", result->index_bytes_per_block)});
  const nlohmann::ordered_json row = {{"sequences", options.sequences},
                                      {"seed", options.seed},
                                      {"tokens", result->tokens},
                                      {"blocks", result->blocks},
                                      {"unique_blocks", result->unique_blocks},
                                      {"verify", options.verify},
                                      {"repeat", options.repeat},
                                      {"insert_us", to_json(result->insert_us)},
                                      {"match_us", to_json(result->match_us)},
                                      {"unpin_us", to_json(result->unpin_us)},
                                      {"index_bytes_per_block", result->index_bytes_per_block}};
  return report(table.text(), nlohmann::ordered_json::array({row}), json);
}

}  // namespace

Command add_perf_index_command(CLI::App& perf) {
  CLI::App* app = perf.add_subcommand("index", "Measure insert and match of prompts");
  auto options = std::make_shared<IndexPerfOptions>();  // shared by the parser and run
  app->add_option("--sequences", options->sequences, "Prompts")->capture_default_str();
  app->add_option("--seed", options->seed, "Of the prompts' generator")->capture_default_str();
  app->add_option("--repeat", options->repeat, "Samples")->capture_default_str();
  app->add_option("--verify", options->verify, "Seal checksums: off, sampled or always")
      ->check(CLI::IsMember({"off", "sampled", "always"}))
      ->capture_default_str();
  auto json = add_json_option(*app);
  app->footer(kHelp);
  return {app, [options, json] { return run_index(*options, *json); }};
}

}  // namespace mempool
