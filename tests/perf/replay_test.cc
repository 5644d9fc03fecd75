// SPDX-License-Identifier: Apache-2.0
// Tests the replay: counted hits, and that no policy passes the bounds beside it.
#include "perf/replay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <bit>
#include <sstream>

namespace mempool {
namespace {

using ::testing::HasSubstr;

RequestTrace small_trace() {
  return read_request_trace_file(MEMPOOL_TEST_TRACES "/mooncake.jsonl", {}).value();
}

uint64_t hit_blocks(const RequestTrace& trace, const std::string& policy, uint32_t capacity) {
  ReplayOptions options;
  options.capacity = capacity;
  const auto row = replay_trace(trace, parse_replay_policy(policy).value(), options);
  EXPECT_TRUE(row.ok()) << row.status().to_string();
  return row.ok() ? row->hit_tokens / trace.block_tokens : 0;
}

TEST(Replay, hits_are_whole_blocks_of_all_tokens) {
  const RequestTrace trace = small_trace();
  const ReplayRow endless = endless_bound(trace);
  EXPECT_EQ(endless.hit_tokens, 512u * (1 + 3 + 2));
  EXPECT_DOUBLE_EQ(endless.hit_ratio, 512.0 * 6 / static_cast<double>(trace.tokens));
  EXPECT_EQ(hit_blocks(trace, "lru", trace.distinct_blocks), 6u);
}

TEST(Replay, small_pool_keeps_what_was_used_last) {
  const RequestTrace trace = small_trace();
  // 0 1 2 | 0 3: 2 goes | 0 1: two hits, 2 and 5 take the place of 3 | 7 8: 5 and 2 go | 0: a hit
  EXPECT_EQ(hit_blocks(trace, "lru", 4), 1u + 3 + 1);
  EXPECT_EQ(hit_blocks(trace, "lru", 3), 1u + 2 + 1);
  EXPECT_EQ(belady_bound(trace, 3).hit_tokens, 512u * (1 + 2 + 2));
}

TEST(Replay, prompt_larger_than_the_pool_keeps_its_first_blocks) {
  const RequestTrace trace = small_trace();
  EXPECT_EQ(hit_blocks(trace, "lru", 1), 1u + 1);  // 0 is found twice, then 7 takes its place
}

TEST(Replay, ttl_takes_its_time_from_the_trace) {
  const RequestTrace trace = small_trace();
  ReplayOptions options;
  options.capacity = trace.distinct_blocks;
  options.ttl = std::chrono::milliseconds(640);
  const auto row = replay_trace(trace, parse_replay_policy("ttl").value(), options);
  EXPECT_EQ(row.value().hit_tokens, 512u * (1 + 1));  // 500 and 400 ms apart; 1 and 2 had theirs
}

TEST(Replay, unknown_policies_are_refused_with_the_names_there_are) {
  EXPECT_THAT(std::string(parse_replay_policy("mru").status().message()), HasSubstr("s3fifo"));
  EXPECT_THAT(std::string(parse_replay_policy("lru+").status().message()), HasSubstr("second_hit"));
  EXPECT_EQ(parse_replay_policy("lfu+second_hit").value().eviction, "lfu");
}

/// Prompts of up to three blocks out of two tokens.
RequestTrace any_trace() {
  const auto prompts = *rc::gen::container<std::vector<std::vector<uint32_t>>>(
      rc::gen::mapcat(rc::gen::inRange<size_t>(1, 4), [](size_t blocks) {
        return rc::gen::container<std::vector<uint32_t>>(blocks, rc::gen::inRange<uint32_t>(0, 2));
      }));
  std::string text = "[0]\n";
  for (const auto& prompt : prompts) {
    std::string line;
    for (const uint32_t token : prompt) line += (line.empty() ? "[" : ",") + std::to_string(token);
    text += line + "]\n";
  }
  std::istringstream stream(text);
  return read_request_trace(stream, {.block_tokens = 1}).value();
}

/// The most hits of any choice of blocks to hold, found by trying all.
uint64_t most_hits(const RequestTrace& trace, uint32_t capacity) {
  std::vector<int64_t> best(size_t{1} << trace.distinct_blocks, -1);  // by the set that is held
  best[0] = 0;
  for (const TraceRequest& request : trace.requests) {
    for (const uint32_t block : request.blocks) {
      std::vector<int64_t> next(best.size(), -1);
      const size_t bit = size_t{1} << block;
      for (size_t held = 0; held < best.size(); ++held) {
        if (best[held] < 0) continue;
        const int64_t hits = best[held] + ((held & bit) != 0);
        const size_t all = held | bit;
        if (std::popcount(all) <= static_cast<int>(capacity)) next[all] = std::max(next[all], hits);
        for (size_t one = 1; one < best.size(); one <<= 1) {
          if (std::popcount(all) <= static_cast<int>(capacity) || (all & one) == 0) continue;
          next[all ^ one] = std::max(next[all ^ one], hits);
        }
      }
      best = std::move(next);
    }
  }
  return static_cast<uint64_t>(*std::ranges::max_element(best));
}

RC_GTEST_PROP(BeladyBound, is_the_most_that_any_choice_reaches, ()) {
  const RequestTrace trace = any_trace();
  const uint32_t capacity = *rc::gen::inRange<uint32_t>(1, 6);
  const uint64_t bound = belady_bound(trace, capacity).hit_tokens;
  RC_ASSERT(bound == most_hits(trace, capacity));
  RC_ASSERT(bound <= endless_bound(trace).hit_tokens);
  for (const char* policy : {"lru", "s3fifo", "lfu", "ttl", "lru+second_hit"}) {
    RC_ASSERT(hit_blocks(trace, policy, capacity) <= bound);
  }
}

RC_GTEST_PROP(Replay, pool_that_holds_all_hits_as_an_endless_one, ()) {
  const RequestTrace trace = any_trace();
  for (const char* policy : {"lru", "s3fifo", "lfu"}) {
    RC_ASSERT(hit_blocks(trace, policy, trace.distinct_blocks) == endless_bound(trace).hit_tokens);
  }
}

}  // namespace
}  // namespace mempool
