// SPDX-License-Identifier: Apache-2.0
// Owns what the subcommands share: how each hangs into the command line, and how it ends.
#pragma once

#include <functional>
#include <string_view>

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

/// Say on one line of standard error what went wrong.
void print_error(std::string_view message);
/// Say why a command failed, and give its exit code: usage for kInvalidArgument, else failure.
int fail(const Status& status);

}  // namespace mempool
