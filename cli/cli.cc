// SPDX-License-Identifier: Apache-2.0
// Owns the command `mempool`: its line is parsed here, and the subcommand that it names is run.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <exception>
#include <string>

#include "cli/command.h"
#include "mempool/version.h"

namespace mempool {
namespace {

constexpr char kExamples[] = R"(Examples:
  mempool agent --config prefill.toml
  mempool status --at 127.0.0.1:9400
  mempool doctor --config prefill.toml
  mempool perf transfer --piece-bytes 4KiB,32KiB,160KiB
  mempool replay trace.jsonl --policies lru,s3fifo

Exit codes: 0 done, 1 failed, 2 wrong usage.)";

int run(int argc, char** argv) {
  CLI::App app("A distributed memory pool for the KV cache of LLM serving.", "mempool");
  app.set_version_flag("--version", std::string(version()), "Print the version and end");
  app.footer(kExamples);
  app.require_subcommand(1);
  const Command commands[] = {add_agent_command(app), add_status_command(app),
                              add_doctor_command(app), add_perf_command(app),
                              add_replay_command(app)};
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help and --version
    print_error(std::string(error.what()) + "; see --help");
    return kExitUsage;
  }
  for (const Command& command : commands) {
    if (command.app->parsed()) return command.run();
  }
  return kExitUsage;
}

}  // namespace
}  // namespace mempool

int main(int argc, char** argv) {
  try {
    return mempool::run(argc, argv);
  } catch (const std::exception& error) {
    mempool::print_error(error.what());
    return mempool::kExitFailure;
  }
}
