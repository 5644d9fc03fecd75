// SPDX-License-Identifier: Apache-2.0
// Owns what the subcommands share: how each hangs into the command line, and how it ends.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.h"
#include "mempool/status.h"

namespace CLI {
class App;
}

namespace mempool {

enum ExitCode : int { kExitOk = 0, kExitFailure = 1, kExitUsage = 2 };

/// A subcommand that was hung into the command line; `run` gives the exit code, once parsed.
struct Command {
  CLI::App* app = nullptr;
  std::function<int()> run;
};

Command add_agent_command(CLI::App& parent);
Command add_doctor_command(CLI::App& parent);
Command add_status_command(CLI::App& parent);
Command add_perf_command(CLI::App& parent);
Command add_replay_command(CLI::App& parent);

/// Where an agent's settings come from, as its commands are told.
struct SettingArguments {
  std::string file;
  std::vector<std::string> settings;
};

/// Hang `--config FILE` and `--set SECTION.KEY=VALUE` into a command. Requires: `into` outlives it.
void add_setting_options(CLI::App& app, SettingArguments& into);

/// Load what they name, over the environment. Errors: those of Config::load().
Result<Config> load_settings(const SettingArguments& arguments);

/// Say on one line of standard error what went wrong.
void print_error(std::string_view message);
/// Say why a command failed, and give its exit code: usage for kInvalidArgument, else failure.
int fail(const Status& status);

}  // namespace mempool
