// SPDX-License-Identifier: Apache-2.0
// Owns the arithmetic and the printing of measurements.
#include "perf/measure.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/check.h"

namespace mempool {
namespace {

bool is_number(const std::string& cell) {
  return !cell.empty() && (cell[0] == '-' || (cell[0] >= '0' && cell[0] <= '9'));
}

Status written(const std::ofstream& stream, const std::string& path) {
  if (stream) return Status();
  return unavailable(fmt::format("{}: cannot write it: {}", path, std::strerror(errno)));
}

}  // namespace

Spread spread_of(std::vector<double> samples) {
  MEMPOOL_CHECK(!samples.empty());
  std::ranges::sort(samples);
  const size_t count = samples.size();
  const double median = (samples[(count - 1) / 2] + samples[count / 2]) / 2;
  return {samples.front(), median, samples.back()};
}

nlohmann::ordered_json to_json(const Spread& spread) {
  return {{"min", spread.min}, {"median", spread.median}, {"max", spread.max}};
}

std::string to_text(const Spread& spread, int digits) {
  return fmt::format("{:.{}f}/{:.{}f}/{:.{}f}", spread.min, digits, spread.median, digits,
                     spread.max, digits);
}

TextTable::TextTable(std::vector<std::string> headings) : rows_{std::move(headings)} {}

void TextTable::add_row(std::vector<std::string> cells) {
  MEMPOOL_CHECK(cells.size() == rows_.front().size());
  rows_.push_back(std::move(cells));
}

std::string TextTable::text() const {
  std::vector<size_t> widths(rows_.front().size());
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const bool right = is_number(rows_.back()[i]);  // a heading stands as its column does
      line += right ? fmt::format("{:>{}}  ", row[i], widths[i])
                    : fmt::format("{:<{}}  ", row[i], widths[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + '\n';
  }
  return out;
}

ProgressLine::ProgressLine() : terminal_(isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() {
  if (shown_) std::fputs("\r\033[K", stderr);
}

void ProgressLine::show(const std::string& what, size_t done, size_t of) {
  if (!terminal_) return;
  shown_ = true;
  fmt::print(stderr, "\r\033[K{} {}/{}", what, done, of);
  std::fflush(stderr);
}

Status check_writable(const std::string& path) {
  return written(std::ofstream(path, std::ios::app), path);
}

Status write_text(const std::string& path, const std::string& text) {
  std::ofstream stream(path, std::ios::binary);
  stream << text;
  stream.close();
  return written(stream, path);
}

Status write_rows(const std::string& path, const nlohmann::ordered_json& rows) {
  const std::string text = nlohmann::ordered_json{{"rows", rows}}.dump(2) + "\n";
  if (path != "-") return write_text(path, text);
  fmt::print("{}", text);
  return Status();
}

}  // namespace mempool
