// SPDX-License-Identifier: Apache-2.0
// Owns the log: one record a line on standard error, as text or as JSON; and the bound on warnings
// that others can cause.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "core/clock.h"
#include "mempool/status.h"

namespace mempool {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };
enum class LogFormat : uint8_t { kText, kJson };

/// Read "debug", "info", "warning" or "error". Errors: kInvalidArgument.
Result<LogLevel> parse_log_level(std::string_view text);

/// Set the least severe level that is written, and the form; info and text until then. Call it
/// before other threads log.
void configure_log(LogLevel level, LogFormat format);

/// What configure_log() has set; a module, whose log is a copy of its own, is told it.
struct LogSettings {
  LogLevel level = LogLevel::kInfo;
  LogFormat format = LogFormat::kText;
};
LogSettings log_settings();

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

/// Bounds the warnings that a stranger can cause: of each cause at most one a second is written,
/// with how many were left out since the one before. Causes are words of the program, never of the
/// stranger, and so are few. Thread: confined.
class BoundedLog {
 public:
  explicit BoundedLog(const Clock& clock = system_clock()) : clock_(clock) {}

  template <typename... Args>
  void warning(std::string_view cause, fmt::format_string<Args...> format, Args&&... args) {
    const std::optional<uint64_t> left_out = admit(cause);
    if (!left_out) return;
    (*left_out == 0 ? log() : log().with("left_out", *left_out))
        .warning(format, std::forward<Args>(args)...);
  }

 private:
  struct Cause {
    TimePoint written;
    uint64_t left_out = 0;
  };

  /// Give how many were left out when one may be written now.
  std::optional<uint64_t> admit(std::string_view cause);

  const Clock& clock_;
  std::map<std::string, Cause, std::less<>> causes_;
};

}  // namespace mempool
