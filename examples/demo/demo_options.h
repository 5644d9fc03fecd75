// SPDX-License-Identifier: Apache-2.0
// Owns the demo's flags.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace mempool::demo {

struct DemoOptions {
  std::string role;   // set in the processes that the demo starts
  std::string trace;  // empty: draw conversations
  uint32_t scale = 32;
  uint64_t requests = 200;
  uint64_t seed = 1;
  std::string model = "all";
  std::vector<std::string> transports = {"shm", "tcp"};
  std::vector<std::string> modes = {"by_layer", "by_request"};
  std::string memory = "pool";
  uint64_t pool_bytes = 0;  // of either process; 0: by the machine's memory
  uint64_t move_bytes = 2'000'000'000;
  uint64_t corrupt_request = 0;
  std::map<std::string, std::string> prefill;  // settings of transports, in that process
  std::map<std::string, std::string> decode;
  std::string json;
};

/// Read the command line into `options`; gives the exit code where the program shall end at once,
/// having printed the help or one line of what is wrong.
std::optional<int> parse_options(int argc, char** argv, DemoOptions& options);

}  // namespace mempool::demo
