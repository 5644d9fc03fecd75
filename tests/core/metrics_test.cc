// SPDX-License-Identifier: Apache-2.0
// Owns the tests of the metrics: values, labels, buckets and the text that a scrape gets.
#include "core/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "mempool/version.h"

namespace mempool {
namespace {

using ::testing::HasSubstr;

TEST(Metrics, counts_appear_under_their_name_and_labels) {
  Metrics metrics;
  metrics.transfers.with({"source", "OK"}).add();
  metrics.transfers.with({"source", "OK"}).add(2);
  metrics.transfers.with({"target", "STALE"}).add();
  metrics.blocks.with({"free"}).set(41);
  const std::string text = metrics.text();
  EXPECT_THAT(text, HasSubstr("# TYPE mempool_transfers_total counter\n"));
  EXPECT_THAT(text, HasSubstr("mempool_transfers_total{role=\"source\",result=\"OK\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("mempool_transfers_total{role=\"target\",result=\"STALE\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE mempool_blocks gauge\n"));
  EXPECT_THAT(text, HasSubstr("mempool_blocks{state=\"free\"} 41\n"));
}

TEST(Metrics, metrics_without_labels_start_at_zero) {
  const std::string text = Metrics().text();
  EXPECT_THAT(text, HasSubstr("\nmempool_evictions_total 0\n"));
  EXPECT_THAT(text, HasSubstr("\nmempool_checksum_failures_total 0\n"));
  EXPECT_THAT(text, HasSubstr("\nmempool_transfer_seconds_count 0\n"));
  EXPECT_THAT(text,
              HasSubstr("mempool_build_info{version=\"" + std::string(version()) + "\"} 1\n"));
}

TEST(Metrics, label_value_from_outside_is_escaped) {
  Metrics metrics;
  metrics.peer_up.with({"a\"b\n", "source"}).set(1);
  EXPECT_THAT(metrics.text(), HasSubstr("mempool_peer_up{peer=\"a\\\"b\\n\",role=\"source\"} 1\n"));
}

TEST(Metrics, duration_falls_into_the_first_bucket_that_holds_it) {
  Metrics metrics;
  for (const double seconds : {0.001, 0.002, 60.0})
    metrics.transfer_seconds.with().observe(seconds);
  const std::string text = metrics.text();
  EXPECT_THAT(text, HasSubstr("mempool_transfer_seconds_bucket{le=\"0.0003\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("mempool_transfer_seconds_bucket{le=\"0.001\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("mempool_transfer_seconds_bucket{le=\"30\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("mempool_transfer_seconds_bucket{le=\"+Inf\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("mempool_transfer_seconds_count 3\n"));
  EXPECT_THAT(text, HasSubstr("mempool_transfer_seconds_sum 60.003"));
}

TEST(Metrics, kept_reference_counts_while_others_add_labels) {
  Metrics metrics;
  Counter& kept = metrics.match_tokens.with({"hit"});
  constexpr int kRounds = 1000;
  std::jthread other([&] {
    for (int i = 0; i < kRounds; ++i) metrics.match_tokens.with({std::to_string(i)}).add();
  });
  for (int i = 0; i < kRounds; ++i) kept.add();
  other.join();
  EXPECT_EQ(metrics.match_tokens.with({"hit"}).value(), uint64_t{kRounds});
}

TEST(MetricsDeathTest, missing_label_value_aborts) {
  Metrics metrics;
  EXPECT_DEATH(metrics.transfers.with({"source"}), "check failed");
}

}  // namespace
}  // namespace mempool
