// SPDX-License-Identifier: Apache-2.0
// Owns the options by which `mempool perf transfer` and `mempool perf matrix` say what is moved.
#pragma once

#include <string>
#include <vector>

#include "mempool/status.h"
#include "perf/transfer_case.h"

namespace CLI {
class App;
}

namespace mempool {

struct TransferArguments {
  TransferCase shared;
  std::vector<std::string> transports = {"tcp"};
  std::vector<std::string> ops = {"write"};
  std::vector<std::string> piece_bytes = {"4KiB", "32KiB", "160KiB"};
  std::vector<std::string> patterns = {"scattered"};
  std::vector<std::string> verify = {"off"};
  std::string send_buffer = "0";
  std::string receive_buffer = "0";
};

/// Hang the options into a command. Requires: `into` outlives it.
void add_transfer_options(CLI::App& app, TransferArguments& into);

/// Give one case for each combination of what was listed. Errors: kInvalidArgument.
Result<std::vector<TransferCase>> cases_of(const TransferArguments& arguments);

}  // namespace mempool
