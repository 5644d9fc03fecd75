// SPDX-License-Identifier: Apache-2.0
// Owns what all measurements share: spreads of samples, and rows as a table or as JSON.
#pragma once

#include <chrono>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "mempool/status.h"

namespace mempool {

/// The least, the middle and the most of some samples.
struct Spread {
  double min = 0;
  double median = 0;
  double max = 0;
};

/// Requires: at least one sample. The median of an even number is the mean of the two in the
/// middle.
Spread spread_of(std::vector<double> samples);
nlohmann::ordered_json to_json(const Spread& spread);
/// Give "1.20/1.34/1.50".
std::string to_text(const Spread& spread, int digits);

/// Measures from its making on. Thread: confined.
class Stopwatch {
 public:
  double nanoseconds() const {
    return std::chrono::duration<double, std::nano>(Clock::now() - start_).count();
  }
  double seconds() const { return nanoseconds() * 1e-9; }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

/// Rows of text under headings, each column as wide as its widest cell; numbers stand right.
/// Thread: confined.
class TextTable {
 public:
  explicit TextTable(std::vector<std::string> headings);
  /// Requires: a cell for each heading.
  void add_row(std::vector<std::string> cells);
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;  // the headings first
};

/// Shows how far a long command is: one line on a terminal, nothing elsewhere. Thread: confined.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();
  void show(const std::string& what, size_t done, size_t of);

 private:
  bool terminal_ = false;
  bool shown_ = false;
};

/// Make sure before a long measurement that its file can be written; one that is missing is made,
/// empty. Errors: kUnavailable.
Status check_writable(const std::string& path);

/// Errors: kUnavailable.
Status write_text(const std::string& path, const std::string& text);

/// Write {"rows": [...]} to a file, or to standard output for "-". Errors: kUnavailable.
Status write_rows(const std::string& path, const nlohmann::ordered_json& rows);

}  // namespace mempool
