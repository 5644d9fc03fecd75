// SPDX-License-Identifier: Apache-2.0
// Tests Status and Result, and the macros that pass them on.
#include "mempool/status.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>

#include "core/check.h"

namespace mempool {
namespace {

TEST(Status, ok_says_ok_and_nothing_else) {
  const Status status;
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.code(), StatusCode::kOk);
  EXPECT_EQ(status.message(), "");
  EXPECT_EQ(status.to_string(), "OK");
  EXPECT_TRUE(Status(StatusCode::kOk, "dropped").ok());
}

TEST(Status, failure_keeps_code_message_and_retry_hint) {
  const Status status = resource_exhausted("pool full", 25);
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(status.retry_after_ms(), 25u);
  EXPECT_EQ(status.to_string(), "RESOURCE_EXHAUSTED: pool full");
}

TEST(Status, context_stands_in_front_and_the_rest_stays) {
  const Status status = resource_exhausted("pool full", 25).with_context("offer 7");
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "offer 7: pool full");
  EXPECT_EQ(status.retry_after_ms(), 25u);
  EXPECT_TRUE(Status().with_context("offer 7").ok());
}

TEST(Status, every_code_has_its_own_name) {
  std::set<std::string_view> names;
  for (uint8_t code = 0; code <= static_cast<uint8_t>(StatusCode::kInternal); ++code) {
    names.insert(status_code_name(static_cast<StatusCode>(code)));
  }
  EXPECT_EQ(names.size(), static_cast<size_t>(StatusCode::kInternal) + 1);
  EXPECT_FALSE(names.contains("UNKNOWN"));
  EXPECT_EQ(status_code_name(static_cast<StatusCode>(200)), "UNKNOWN");
}

TEST(Status, each_maker_gives_its_code) {
  EXPECT_EQ(invalid_argument("").code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(not_found("").code(), StatusCode::kNotFound);
  EXPECT_EQ(unavailable("").code(), StatusCode::kUnavailable);
  EXPECT_EQ(deadline_exceeded("").code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(unsupported("").code(), StatusCode::kUnsupported);
  EXPECT_EQ(cancelled("").code(), StatusCode::kCancelled);
  EXPECT_EQ(corruption("").code(), StatusCode::kCorruption);
  EXPECT_EQ(stale("").code(), StatusCode::kStale);
  EXPECT_EQ(permission_denied("").code(), StatusCode::kPermissionDenied);
  EXPECT_EQ(internal_error("").code(), StatusCode::kInternal);
}

Result<int> half(int number) {
  if (number % 2 != 0) return invalid_argument("odd");
  return number / 2;
}

Result<int> quarter(int number) {
  MEMPOOL_ASSIGN_OR_RETURN(const int once, half(number));
  MEMPOOL_RETURN_IF_ERROR(half(once).status());
  return half(once);
}

TEST(Result, passes_a_value_or_the_first_failure_on) {
  EXPECT_EQ(quarter(12).value(), 3);
  EXPECT_EQ(quarter(6).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(quarter(5).status().message(), "odd");
  EXPECT_TRUE(quarter(12).status().ok());
}

TEST(Result, hands_over_a_value_that_cannot_be_copied) {
  Result<std::unique_ptr<int>> result(std::make_unique<int>(4));
  const std::unique_ptr<int> value = std::move(result).value();
  EXPECT_EQ(*value, 4);
}

TEST(ResultDeathTest, value_of_a_failure_aborts) {
  EXPECT_DEATH((void)half(1).value(), "");
  EXPECT_DEATH((void)Result<int>(Status()), "");
}

}  // namespace
}  // namespace mempool
