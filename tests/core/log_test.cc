// SPDX-License-Identifier: Apache-2.0
// Owns the tests of the log: its two forms, its levels, that a record stays one line, and how many
// warnings of one cause are written.
#include "core/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

namespace mempool {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

class Log : public ::testing::Test {
 protected:
  ~Log() override { configure_log(LogLevel::kInfo, LogFormat::kText); }

  static std::string written(LogLevel level, LogFormat format, const std::function<void()>& body) {
    configure_log(level, format);
    ::testing::internal::CaptureStderr();
    body();
    return ::testing::internal::GetCapturedStderr();
  }
};

TEST_F(Log, text_record_ends_with_its_fields) {
  const std::string out = written(LogLevel::kInfo, LogFormat::kText, [] {
    log().with("peer", "decode0").with("slot", 7).warning("lost after {} ms", 200);
  });
  EXPECT_THAT(out, EndsWith(" warning lost after 200 ms peer=decode0 slot=7\n"));
}

TEST_F(Log, json_record_has_time_level_message_and_fields) {
  const std::string out = written(LogLevel::kInfo, LogFormat::kJson,
                                  [] { log().with("peer", "a\"b").info("up {}", "{}"); });
  const auto record = nlohmann::json::parse(out);
  EXPECT_EQ(record.at("level"), "info");
  EXPECT_EQ(record.at("message"), "up {}");
  EXPECT_EQ(record.at("peer"), "a\"b");
  EXPECT_EQ(record.at("time").get<std::string>().size(),
            sizeof("2024-01-31T12:00:00.000+00:00") - 1);
}

TEST_F(Log, record_below_the_level_is_not_written) {
  const std::string out = written(LogLevel::kWarning, LogFormat::kText, [] {
    log().debug("one");
    log().info("two");
    log().error("three");
  });
  EXPECT_THAT(out, EndsWith(" error three\n"));
  EXPECT_EQ(out.find("two"), std::string::npos);
}

TEST_F(Log, bytes_from_outside_cannot_break_the_line) {
  const auto body = [] { log().with("peer", "a\nb").info("name \xff{}", "\r\n"); };
  const std::string text = written(LogLevel::kInfo, LogFormat::kText, body);
  EXPECT_EQ(std::ranges::count(text, '\n'), 1);
  const std::string json = written(LogLevel::kInfo, LogFormat::kJson, body);
  EXPECT_EQ(std::ranges::count(json, '\n'), 1);
  EXPECT_EQ(nlohmann::json::parse(json).at("peer"), "a\nb");
}

TEST_F(Log, bounded_warnings_are_one_a_second_of_each_cause) {
  ManualClock clock;
  BoundedLog bounded(clock);
  const auto written_by = [&](const char* cause) {
    return written(LogLevel::kInfo, LogFormat::kText,
                   [&] { bounded.warning(cause, "refused {}", cause); });
  };
  EXPECT_THAT(written_by("token"), EndsWith(" warning refused token\n"));
  EXPECT_EQ(written_by("token"), "");
  EXPECT_THAT(written_by("version"), EndsWith(" warning refused version\n"));
  clock.advance(std::chrono::milliseconds(999));
  EXPECT_EQ(written_by("token"), "");
  clock.advance(std::chrono::milliseconds(1));
  EXPECT_THAT(written_by("token"), EndsWith(" warning refused token left_out=2\n"));
  EXPECT_EQ(written_by("token"), "") << "the second begins anew";
  clock.advance(std::chrono::seconds(2));
  EXPECT_THAT(written_by("token"), EndsWith(" left_out=1\n"));
  EXPECT_THAT(written_by("version"), EndsWith(" warning refused version\n"));
}

TEST_F(Log, level_is_read_by_name) {
  EXPECT_EQ(parse_log_level("debug").value(), LogLevel::kDebug);
  EXPECT_EQ(parse_log_level("error").value(), LogLevel::kError);
  EXPECT_THAT(parse_log_level("loud").status().to_string(), HasSubstr("no log level \"loud\""));
}

}  // namespace
}  // namespace mempool
