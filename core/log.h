// SPDX-License-Identifier: Apache-2.0
// Owns the log: one record a line on standard error, as text or as JSON.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "mempool/status.h"

namespace mempool {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };
enum class LogFormat : uint8_t { kText, kJson };

/// Read "debug", "info", "warning" or "error". Errors: kInvalidArgument.
Result<LogLevel> parse_log_level(std::string_view text);

/// Set the least severe level that is written, and the form; info and text until then. Call it
/// before other threads log.
void configure_log(LogLevel level, LogFormat format);

/// Writes records, each with the fields it was given by with(). Never throws. Not for the data
/// path. Thread: safe.
class Logger {
 public:
  /// Give a logger whose records also carry `name`: after the message in text, as a member in JSON.
  template <typename T>
  Logger with(std::string_view name, const T& value) const {
    return with_text(name, fmt::format("{}", value));
  }

  template <typename... Args>
  void debug(fmt::format_string<Args...> format, Args&&... args) const {
    write(LogLevel::kDebug, format, fmt::make_format_args(args...));
  }
  template <typename... Args>
  void info(fmt::format_string<Args...> format, Args&&... args) const {
    write(LogLevel::kInfo, format, fmt::make_format_args(args...));
  }
  template <typename... Args>
  void warning(fmt::format_string<Args...> format, Args&&... args) const {
    write(LogLevel::kWarning, format, fmt::make_format_args(args...));
  }
  template <typename... Args>
  void error(fmt::format_string<Args...> format, Args&&... args) const {
    write(LogLevel::kError, format, fmt::make_format_args(args...));
  }

 private:
  Logger with_text(std::string_view name, std::string_view value) const;
  void write(LogLevel level, fmt::string_view format, fmt::format_args args) const;

  std::string text_fields_;  // " name=value" of each field
  std::string json_fields_;  // ",\"name\":\"value\"" of each field
};

/// The process's logger, without fields.
const Logger& log();

}  // namespace mempool
