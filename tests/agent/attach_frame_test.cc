// SPDX-License-Identifier: Apache-2.0
// Owns the checks of the bytes between an agent and an attached engine.
#include <gtest/gtest.h>

#include "agent/attach_frame.h"

namespace mempool {
namespace {

Result<AttachFrame> there_and_back(const AttachFrame& frame) {
  const std::vector<std::byte> bytes = encode_attach(frame);
  return decode_attach(std::vector<std::byte>(bytes.begin() + 4, bytes.end()));
}

AttachCall two_blocks() {
  AttachCall call{.operation = AttachOperation::kInsert, .tokens = {1, 2}};
  call.blocks = {BlockAddress::make(7, 1, Medium::kHost, 3),
                 BlockAddress::make(7, 2, Medium::kHost, 4)};
  return call;
}

TEST(AttachFrame, a_call_comes_as_it_went) {
  AttachCall call = two_blocks();
  call.ticket = 9;
  call.sums = {{0, 11}, {1, 12}};
  call.content = {{1, 2}, {3, 4}, 5};
  call.name = "decode";
  call.layers = {2, 3};
  call.user_data = {std::byte{5}};
  const auto frame = there_and_back(call);
  ASSERT_TRUE(frame.ok()) << frame.status().to_string();
  const auto& back = std::get<AttachCall>(*frame);
  EXPECT_EQ(back.operation, call.operation);
  EXPECT_EQ(back.ticket, 9u);
  EXPECT_EQ(back.tokens, call.tokens);
  EXPECT_EQ(back.blocks, call.blocks);
  EXPECT_EQ(back.sums, call.sums);
  EXPECT_EQ(back.content, call.content);
  EXPECT_EQ(back.name, "decode");
  EXPECT_EQ(back.layers, call.layers);
  EXPECT_EQ(back.user_data, call.user_data);
}

TEST(AttachFrame, an_arrival_keeps_its_content) {
  Arrival arrival;
  arrival.content = {{1, 2}, {3, 4}, 5};
  EXPECT_EQ(std::get<Arrival>(there_and_back(arrival).value()).content, arrival.content);
}

TEST(AttachFrame, an_answer_keeps_its_status_and_hint) {
  AttachAnswer answer;
  answer.status = resource_exhausted("no room", 30);
  const auto frame = there_and_back(answer);
  ASSERT_TRUE(frame.ok());
  const Status back = std::get<AttachAnswer>(*frame).status;
  EXPECT_EQ(back.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(back.message(), "no room");
  EXPECT_EQ(back.retry_after_ms(), 30u);
}

TEST(AttachFrame, a_report_that_counts_no_system_calls_stays_so) {
  TransferEnded ended;
  ended.ticket = 1;
  ended.report.system_calls.reset();
  EXPECT_FALSE(
      std::get<TransferEnded>(there_and_back(ended).value()).report.system_calls.has_value());
  ended.report.system_calls = 0;
  EXPECT_EQ(std::get<TransferEnded>(there_and_back(ended).value()).report.system_calls, 0u);
}

TEST(AttachFrame, sums_must_be_of_blocks_and_in_order) {
  AttachCall call = two_blocks();
  call.sums = {{2, 11}};
  EXPECT_EQ(there_and_back(call).status().code(), StatusCode::kCorruption);
  call.sums = {{1, 11}, {0, 12}};
  EXPECT_EQ(there_and_back(call).status().code(), StatusCode::kCorruption);
  call.sums = {{1, 11}, {1, 12}};
  EXPECT_EQ(there_and_back(call).status().code(), StatusCode::kCorruption);
}

TEST(AttachFrame, what_this_version_does_not_know_is_refused) {
  AttachCall call;
  call.operation = static_cast<AttachOperation>(200);
  EXPECT_EQ(there_and_back(call).status().code(), StatusCode::kCorruption);
  call.operation = AttachOperation::kAlloc;
  call.medium = static_cast<Medium>(9);
  EXPECT_EQ(there_and_back(call).status().code(), StatusCode::kCorruption);
  EXPECT_EQ(decode_attach({}).status().code(), StatusCode::kCorruption);
}

TEST(AttachFrame, more_segments_than_a_pool_has_are_refused) {
  AttachWelcome welcome;
  welcome.segments.resize(kAttachSegmentsMax + 1);
  EXPECT_EQ(there_and_back(welcome).status().code(), StatusCode::kCorruption);
}

}  // namespace
}  // namespace mempool
