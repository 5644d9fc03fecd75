// SPDX-License-Identifier: Apache-2.0
// Owns the tests of the demo's figures as they are told.
#include "examples/demo/demo_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace mempool::demo {
namespace {

using testing::HasSubstr;
using testing::Not;

RowResult example() {
  RowResult row;
  row.model = "Llama-3-8B";
  row.transport = "tcp";
  row.mode = "by_request";
  row.placement = "discrete";
  row.memory = "pool";
  row.requests = 4;
  row.tokens = 400;
  row.tokens_matched = 100;
  row.bytes_moved = 6'000'000;
  row.network_calls = 10;
  row.seconds = 0.012;
  row.latencies_ms = {1, 2, 3, 6};
  row.verified = true;
  return row;
}

TEST(DemoReport, a_row_without_requests_divides_by_nothing) {
  const RowResult row;
  EXPECT_EQ(row.hit_ratio(), 0);
  EXPECT_EQ(row.gb_per_s(), 0);
  EXPECT_THAT(report_text(std::span(&row, 1), {}), HasSubstr("NOT VERIFIED"));
}

TEST(DemoReport, json_says_each_figure_under_its_name) {
  RowResult row = example();
  row.system_calls.reset();
  const auto document = nlohmann::json::parse(report_json(std::span(&row, 1), {11, 12}));
  EXPECT_EQ(document["paper_calls_1024_tokens"]["discrete"], 11);
  EXPECT_EQ(document["paper_calls_1024_tokens"]["aggregated"], 12);
  const nlohmann::json& run = document["runs"][0];
  std::vector<std::string> names;
  for (const auto& member : run.items()) names.push_back(member.key());
  EXPECT_THAT(names, testing::UnorderedElementsAre("transport", "mode", "placement", "memory",
                                                   "model", "requests", "tokens", "hit_ratio",
                                                   "bytes_moved", "bytes_saved", "gb_per_s",
                                                   "paper_calls", "run_pair_calls", "network_calls",
                                                   "system_calls", "latency_ms", "verified"));
  EXPECT_EQ(document.size(), 2u);
  EXPECT_EQ(run["mode"], "by_request");
  EXPECT_EQ(run["memory"], "pool");
  EXPECT_EQ(run["hit_ratio"], 0.25);
  EXPECT_DOUBLE_EQ(run["gb_per_s"].get<double>(), 0.5);  // 6 MB in 12 ms
  EXPECT_EQ(run["latency_ms"]["p50"], 2);
  EXPECT_EQ(run["latency_ms"]["p99"], 6);
  EXPECT_TRUE(run["system_calls"].is_null());
  EXPECT_EQ(run["verified"], true);
}

TEST(DemoReport, text_says_calls_in_all_and_of_each_request) {
  RowResult row = example();
  EXPECT_THAT(report_text(std::span(&row, 1), {}), HasSubstr("10 (2.5)"));
  EXPECT_THAT(report_text(std::span(&row, 1), {}), Not(HasSubstr("skipped")));
  row.skipped = 2;
  EXPECT_THAT(report_text(std::span(&row, 1), {}),
              HasSubstr("Llama-3-8B tcp by_request discrete: prompts skipped: 2,"));
}

TEST(DemoReport, by_layer_the_speed_is_of_the_whole_transfer_whatever_the_latencies) {
  RowResult row = example();
  row.mode = "by_layer";
  row.seconds = 0.06;
  EXPECT_DOUBLE_EQ(row.gb_per_s(), 0.1);
  const auto document = nlohmann::json::parse(report_json(std::span(&row, 1), {}));
  EXPECT_EQ(document["runs"][0]["mode"], "by_layer");
  EXPECT_EQ(document["runs"][0]["latency_ms"]["p99"], 6);
}

TEST(DemoReport, text_says_where_the_kv_lay_and_which_call_was_timed) {
  RowResult row = example();
  const std::string pool = report_text(std::span(&row, 1), {});
  EXPECT_THAT(pool, HasSubstr("from the call of transfer_with_insert to"));
  EXPECT_THAT(pool, Not(HasSubstr("tensors")));
  row.memory = "engine";
  const std::string engine = report_text(std::span(&row, 1), {});
  EXPECT_THAT(engine, HasSubstr("from the call of transfer to"));
  EXPECT_THAT(engine, HasSubstr("memory: the KV lay in the engines' own tensors"));
  EXPECT_EQ(engine.substr(0, engine.find("memory:")), pool.substr(0, pool.find("speed: bytes")));
}

TEST(DemoReport, each_model_has_its_own_tables) {
  std::vector<RowResult> rows(3, example());
  rows[0].model = "Llama-2-13B";
  const std::string text = report_text(rows, {});
  EXPECT_THAT(text, testing::StartsWith("Llama-2-13B\ntransport"));
  EXPECT_THAT(text, HasSubstr("\n\nLlama-3-8B\ntransport"));
}

TEST(DemoReport, a_row_that_was_refused_says_why) {
  std::vector<RowResult> rows(2, example());
  rows[0].transport = "shm";
  rows[0].requests = 0;
  rows[0].verified = false;
  rows[0].refused = "no shared memory here";
  EXPECT_THAT(report_text(rows, {}),
              HasSubstr("shm        by_request  discrete    refused: no shared memory here\n"));
  const auto document = nlohmann::json::parse(report_json(rows, {}));
  EXPECT_EQ(document["runs"][0]["refused"], "no shared memory here");
  EXPECT_EQ(document["runs"][0]["verified"], false);
  EXPECT_FALSE(document["runs"][1].contains("refused"));
  EXPECT_THAT(report_text(std::span(rows).first(1), {}), Not(HasSubstr("paper_calls")));
}

TEST(DemoReport, the_plan_counts_what_the_paper_counts) {
  const PaperCalls calls = count_paper_calls().value();
  EXPECT_EQ(calls.discrete, 5120u);
  EXPECT_EQ(calls.aggregated, 64u);
}

}  // namespace
}  // namespace mempool::demo
