// SPDX-License-Identifier: Apache-2.0
// Owns the tests of a trace line: what is accepted, what each refusal says, what tokens come of it.
#include "examples/demo/trace_line.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mempool::demo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string refusal(std::string_view text) {
  const Result<TraceLine> line = decode_trace_line(text);
  EXPECT_FALSE(line.ok()) << text;
  EXPECT_EQ(line.status().code(), StatusCode::kInvalidArgument);
  return std::string(line.status().message());
}

TEST(TraceLine, a_recorded_request_is_read) {
  const Result<TraceLine> line = decode_trace_line(
      R"({"timestamp": 27482, "input_length": 700, "output_length": 52, "hash_ids": [46, 4711]})");
  ASSERT_TRUE(line.ok()) << line.status().to_string();
  EXPECT_EQ(line->input_length, 700u);
  EXPECT_EQ(line->output_length, 52u);
  EXPECT_THAT(line->hash_ids, ElementsAre(46, 4711));
}

TEST(TraceLine, what_is_no_request_is_refused_by_what_is_wrong) {
  EXPECT_THAT(refusal(""), HasSubstr("not JSON"));
  EXPECT_THAT(refusal(R"({"timestamp": 1,)"), HasSubstr("not JSON from byte 17 on"));
  EXPECT_THAT(refusal(R"({"timestamp": 1e999})"), HasSubstr("a number in it is too large"));
  EXPECT_THAT(refusal("[1]"), HasSubstr("an object is needed, not array"));
  EXPECT_THAT(refusal(R"({"timestamp": 1, "input_length": 5, "hash_ids": [1]})"),
              HasSubstr("'output_length' is missing"));
  EXPECT_THAT(
      refusal(R"({"timestamp": 1, "input_length": -5, "output_length": 1, "hash_ids": [1]})"),
      HasSubstr("'input_length' must be a whole number"));
  EXPECT_THAT(refusal(R"({"input_length": 5, "output_length": 1, "hash_ids": [1]})"),
              HasSubstr("'timestamp'"));
  EXPECT_THAT(
      refusal(R"({"timestamp": 1, "input_length": 5, "output_length": 1, "hash_ids": ["1"]})"),
      HasSubstr("'hash_ids'"));
  EXPECT_THAT(refusal(std::string(kTraceLineBytesMax + 1, ' ')), HasSubstr("at most 65536"));
}

TEST(TraceLine, ids_must_be_as_many_as_the_input_fills) {
  EXPECT_THAT(
      refusal(R"({"timestamp": 1, "input_length": 513, "output_length": 1, "hash_ids": [1]})"),
      HasSubstr("513 tokens of input make 2 hash_ids of 512, the line has 1"));
  EXPECT_THAT(refusal(R"({"timestamp":1,"input_length":512,"output_length":1,"hash_ids":[1, 2]})"),
              HasSubstr("make 1 hash_ids"));
  EXPECT_THAT(refusal(R"({"timestamp": 1, "input_length": 0, "output_length": 1, "hash_ids": []})"),
              HasSubstr("0 tokens"));
  EXPECT_THAT(refusal(R"({"timestamp": 1, "input_length": 18446744073709551615,
                          "output_length": 1, "hash_ids": [1]})"),
              HasSubstr("the line has 1"));
}

TEST(TraceTokens, the_last_id_is_cut_where_the_input_ends) {
  const TraceLine line{.input_length = 700, .output_length = 1, .hash_ids = {3, 4}};
  EXPECT_EQ(trace_tokens(line, 1).size(), 700u);
  EXPECT_EQ(trace_tokens(line, 32).size(), 21u);
  EXPECT_EQ(trace_tokens(line, 512).size(), 1u);
  EXPECT_EQ(trace_tokens({.input_length = 5, .output_length = 1, .hash_ids = {3}}, 32).size(), 1u)
      << "no prompt is empty";
}

TEST(TraceTokens, shared_ids_share_their_tokens_and_no_others) {
  const auto first =
      trace_tokens({.input_length = 1024, .output_length = 1, .hash_ids = {3, 4}}, 32);
  const auto second =
      trace_tokens({.input_length = 1024, .output_length = 1, .hash_ids = {3, 5}}, 32);
  ASSERT_EQ(first.size(), 32u);
  for (size_t i = 0; i < 16; ++i) EXPECT_EQ(first[i], second[i]) << i;
  for (size_t i = 16; i < 32; ++i) EXPECT_NE(first[i], second[i]) << i;
}

}  // namespace
}  // namespace mempool::demo
