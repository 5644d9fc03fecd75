// SPDX-License-Identifier: Apache-2.0
// Owns what the user sees while a row runs: a bar on a terminal, a line a row elsewhere.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

namespace mempool::demo {

/// Writes to standard error, so that standard output holds the results alone. Thread: confined.
class Progress {
 public:
  explicit Progress(bool terminal) : terminal_(terminal) {}

  void begin(const std::string& row);
  /// `share` is of the whole row, from 0; beyond 1 it is 1.
  void show(double share, uint64_t requests, uint64_t bytes_moved);
  void end();

 private:
  const bool terminal_;
  std::string row_;
  std::string state_;
};

}  // namespace mempool::demo
