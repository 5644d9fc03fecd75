// SPDX-License-Identifier: Apache-2.0
// Tests the reading of traces: each form's requests and blocks, and what is wrong with bad ones.
#include "perf/request_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace mempool {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

RequestTrace file(const std::string& name, const TraceOptions& options = {}) {
  const auto trace = read_request_trace_file(MEMPOOL_TEST_TRACES "/" + name, options);
  EXPECT_TRUE(trace.ok()) << trace.status().to_string();
  return trace.ok() ? *trace : RequestTrace();
}

std::string refusal(const std::string& text, const TraceOptions& options = {}) {
  std::istringstream stream(text);
  const Status status = read_request_trace(stream, options).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status.to_string();
  return std::string(status.message());
}

TEST(RequestTrace, mooncakes_ids_are_whole_blocks_of_512_tokens) {
  const RequestTrace trace = file("mooncake.jsonl");
  EXPECT_EQ(trace.form, "mooncake");
  EXPECT_EQ(trace.block_tokens, 512u);
  ASSERT_EQ(trace.requests.size(), 6u);
  EXPECT_EQ(trace.tokens, 1536u + 1300 + 2048 + 100 + 1024 + 1536);
  EXPECT_EQ(trace.requests[1].time_ms, 500u);
  EXPECT_THAT(trace.requests[0].blocks, ElementsAre(0, 1, 2));
  EXPECT_THAT(trace.requests[1].blocks, ElementsAre(0, 3));  // the partial third is no block
  EXPECT_THAT(trace.requests[2].blocks, ElementsAre(0, 1, 2, 4));
  EXPECT_THAT(trace.requests[3].blocks, IsEmpty());
  EXPECT_THAT(trace.requests[5].blocks, ElementsAre(0, 3, 7));
  EXPECT_EQ(trace.distinct_blocks, 8u);
}

TEST(RequestTrace, equal_tokens_behind_another_prefix_are_another_block) {
  const RequestTrace trace = file("tokens.jsonl", {.block_tokens = 4});
  EXPECT_EQ(trace.form, "tokens");
  ASSERT_EQ(trace.requests.size(), 3u);
  EXPECT_THAT(trace.requests[0].blocks, ElementsAre(0, 1));
  EXPECT_THAT(trace.requests[1].blocks, ElementsAre(0, 2));
  EXPECT_THAT(trace.requests[2].blocks, ElementsAre(3));
  EXPECT_EQ(trace.requests[0].time_ms, 40u);
  EXPECT_EQ(trace.requests[1].time_ms, 1000u);  // without a time: a second apart
  EXPECT_EQ(trace.tokens, 21u);
}

TEST(RequestTrace, each_turn_of_the_assistant_asks_with_all_that_was_said_before) {
  const RequestTrace trace = file("sharegpt.json", {.block_tokens = 1, .conversations = 1});
  EXPECT_EQ(trace.form, "sharegpt");
  ASSERT_EQ(trace.requests.size(), 3u);
  EXPECT_EQ(trace.requests[0].tokens, 3u);  // the speaker, and 8 bytes
  EXPECT_EQ(trace.requests[1].tokens, 3u + 2 + 2);
  EXPECT_EQ(trace.requests[2].tokens, 4u);  // the last token has one byte
  EXPECT_THAT(trace.requests[1].blocks, ElementsAre(0, 1, 2, 3, 4, 5, 6));
  EXPECT_THAT(trace.requests[2].blocks, ElementsAre(0, 1, 2, 7));
}

TEST(RequestTrace, conversations_under_way_at_once_take_turns) {
  const RequestTrace trace = file("sharegpt.json", {.block_tokens = 1, .conversations = 2});
  ASSERT_EQ(trace.requests.size(), 3u);
  EXPECT_EQ(trace.requests[1].tokens, 4u);
  EXPECT_EQ(trace.requests[2].tokens, 7u);
}

TEST(RequestTrace, only_the_first_requests_are_taken_when_asked) {
  EXPECT_EQ(file("mooncake.jsonl", {.requests = 2}).requests.size(), 2u);
  EXPECT_EQ(file("sharegpt.json", {.block_tokens = 1, .requests = 2}).requests.size(), 2u);
}

TEST(RequestTrace, bad_line_is_named_with_its_number) {
  EXPECT_THAT(refusal("[1, 2]\n[1, -2]\n"),
              AllOf(HasSubstr("line 2"), HasSubstr("0 to 4294967295")));
  EXPECT_THAT(refusal("[1, 2]\n\n[3]\n"), AllOf(HasSubstr("line 2"), HasSubstr("not JSON")));
  EXPECT_THAT(refusal("{\"tokens\": [1, 2"), AllOf(HasSubstr("line 1"), HasSubstr("not JSON")));
  EXPECT_THAT(refusal("{\"prompt\": [1]}"), AllOf(HasSubstr("line 1"), HasSubstr("'tokens'")));
  EXPECT_THAT(refusal("[1]\n[]"), AllOf(HasSubstr("line 2"), HasSubstr("no tokens")));
  EXPECT_THAT(refusal("[1e999]"), HasSubstr("line 1"));
  EXPECT_THAT(refusal("{\"timestamp\": 0, \"input_length\": 513, \"hash_ids\": [1]}"),
              AllOf(HasSubstr("line 1"), HasSubstr("2 hash_ids")));
  EXPECT_THAT(refusal("{\"timestamp\": 0, \"input_length\": 512, \"hash_ids\": [1]}\n[1, 2]\n"),
              AllOf(HasSubstr("line 2"), HasSubstr("'hash_ids'")));
}

TEST(RequestTrace, bad_conversation_is_named_with_its_number) {
  EXPECT_THAT(refusal("[\n{\"conversations\": []},\n{}]"), HasSubstr("conversation 2"));
  EXPECT_THAT(refusal("[{\"conversations\": [{\"from\": \"human\"}]}]"),
              AllOf(HasSubstr("conversation 1"), HasSubstr("'value'")));
  EXPECT_THAT(refusal("[\n{\"conversations\": [\n}]"), HasSubstr("line 3"));
}

TEST(RequestTrace, nothing_to_replay_is_said) {
  EXPECT_THAT(refusal(""), HasSubstr("no request"));
  EXPECT_THAT(refusal("[1, 2]", {.block_tokens = 16}), HasSubstr("16 tokens"));
  EXPECT_THAT(refusal("[1]", {.block_tokens = 0}), HasSubstr("at least"));
  EXPECT_EQ(read_request_trace_file("/nowhere", {}).status().code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace mempool
