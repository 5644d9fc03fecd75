// SPDX-License-Identifier: Apache-2.0
// Owns the form of an error on the terminal.
#include "cli/command.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <string>

namespace mempool {

void print_error(std::string_view message) {
  std::string line(message);
  std::ranges::replace(line, '\n', ' ');
  fmt::print(stderr, "mempool: {}\n", line);
}

int fail(const Status& status) {
  print_error(status.message());
  return status.code() == StatusCode::kInvalidArgument ? kExitUsage : kExitFailure;
}

}  // namespace mempool
