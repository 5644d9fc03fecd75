// SPDX-License-Identifier: Apache-2.0
// Owns the form of a record, and spdlog's part: levels, time stamps and the lock around the sink.
#include "core/log.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <memory>
#include <nlohmann/json.hpp>

namespace mempool {
namespace {

constexpr std::chrono::seconds kBoundedLogPause{1};
constexpr char kTextPattern[] = "%Y-%m-%dT%H:%M:%S.%e%z %l %v";
constexpr char kJsonPattern[] = R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l",%v})";

std::atomic<LogLevel> current_level = LogLevel::kInfo;
std::atomic<LogFormat> current_format = LogFormat::kText;

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

/// Lives until the process ends, so that destructors of statics may still log.
spdlog::logger& sink() {
  static auto* const logger = [] {
    auto* made = new spdlog::logger("mempool", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern(kTextPattern);
    return made;
  }();
  return *logger;
}

/// Quote for JSON; bytes that are no UTF-8, as a peer may send them, become U+FFFD.
std::string json_string(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// Keep a text record on its line, whatever a peer put into a name.
std::string one_line(std::string text) {
  std::ranges::replace_if(
      text, [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return text;
}

}  // namespace

Result<LogLevel> parse_log_level(std::string_view text) {
  if (text == "debug") return LogLevel::kDebug;
  if (text == "info") return LogLevel::kInfo;
  if (text == "warning") return LogLevel::kWarning;
  if (text == "error") return LogLevel::kError;
  return invalid_argument(
      fmt::format("no log level \"{}\"; there are debug, info, warning and error", text));
}

void configure_log(LogLevel level, LogFormat format) {
  current_level.store(level, std::memory_order_relaxed);
  current_format.store(format, std::memory_order_relaxed);
  sink().set_pattern(format == LogFormat::kJson ? kJsonPattern : kTextPattern);
  sink().set_level(spdlog_level(level));
}

LogSettings log_settings() {
  return {current_level.load(std::memory_order_relaxed),
          current_format.load(std::memory_order_relaxed)};
}

Logger Logger::with_text(std::string_view name, std::string_view value) const {
  Logger logger = *this;
  logger.text_fields_ += fmt::format(" {}={}", name, value);
  logger.json_fields_ += fmt::format(",{}:{}", json_string(name), json_string(value));
  return logger;
}

void Logger::write(LogLevel level, fmt::string_view format, fmt::format_args args) const {
  if (!sink().should_log(spdlog_level(level))) return;
  try {
    std::string record = fmt::vformat(format, args);
    if (current_format.load(std::memory_order_relaxed) == LogFormat::kJson) {
      record = "\"message\":" + json_string(record) + json_fields_;
    } else {
      record = one_line(record + text_fields_);
    }
    sink().log(spdlog_level(level), record);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "mempool: a record was lost: %s\n", failure.what());
  }
}

const Logger& log() {
  static const auto* const logger = new Logger();
  return *logger;
}

std::optional<uint64_t> BoundedLog::admit(std::string_view cause) {
  const TimePoint now = clock_.now();
  const auto found = causes_.find(cause);
  if (found == causes_.end()) {
    causes_.emplace(cause, Cause{now});
    return 0;
  }
  Cause& known = found->second;
  if (now - known.written < kBoundedLogPause) {
    ++known.left_out;
    return std::nullopt;
  }
  known.written = now;
  return std::exchange(known.left_out, 0);
}

}  // namespace mempool
