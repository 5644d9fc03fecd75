// SPDX-License-Identifier: Apache-2.0
// Owns the tests of whole measurements, small: they run, and what they count is right.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/log.h"
#include "perf/alloc_perf.h"
#include "perf/index_perf.h"
#include "perf/layer_perf.h"
#include "perf/transfer_perf.h"

namespace mempool {
namespace {

class QuietLog : public ::testing::Environment {
  void SetUp() override { configure_log(LogLevel::kWarning, LogFormat::kText); }
};
const auto* const quiet_log = ::testing::AddGlobalTestEnvironment(new QuietLog);

TransferRow measured_row(TransferCase measured) {
  measured.repeat = 2;
  const Result<TransferRow> row = run_transfer_perf(measured, {}, [](uint32_t) {});
  EXPECT_TRUE(row.ok()) << row.status().to_string();
  return row.ok() ? *row : TransferRow();
}

TEST(AllocPerf, whole_batches_of_the_pool_are_counted) {
  const AllocPerfResult result = run_alloc_perf({.batch = 64, .blocks = 200, .repeat = 3}).value();
  EXPECT_EQ(result.blocks, 192u);
  EXPECT_GT(result.alloc_free_ns.min, 0);
}

TEST(AllocPerf, batch_beyond_the_pool_is_refused) {
  const Status status = run_alloc_perf({.batch = 64, .blocks = 32, .repeat = 3}).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
}

TEST(IndexPerf, index_holds_each_shared_block_once) {
  const IndexPerfResult result = run_index_perf({.sequences = 20, .repeat = 2}).value();
  EXPECT_GT(result.unique_blocks, 0u);
  EXPECT_LT(result.unique_blocks, result.blocks);
  EXPECT_GT(result.index_bytes_per_block, 0);
}

TEST(LayerPerf, all_layers_of_the_prompt_arrive) {
  LayerCase measured;
  measured.transfer.piece_bytes = 4096;
  measured.transfer.pattern = TransferPattern::kAggregated;
  measured.transfer.repeat = 1;
  measured.transfer.verify = "always";
  measured.tokens = 64;
  measured.layer_time = std::chrono::microseconds(10);
  const Result<LayerRow> row = run_layer_perf(measured, [](uint32_t) {});
  ASSERT_TRUE(row.ok()) << row.status().to_string();
  EXPECT_EQ(row->layers, 32u);
  EXPECT_EQ(row->bytes, 4u * 64 * 4096);
  EXPECT_GT(row->tail_ms.min, 0);
}

TEST(LayerPerf, a_part_of_a_block_or_single_pieces_are_refused) {
  LayerCase measured;
  measured.transfer.pattern = TransferPattern::kDiscrete;
  measured.tokens = 20;
  const auto ignore = [](uint32_t) {};
  EXPECT_EQ(run_layer_perf(measured, ignore).status().code(), StatusCode::kInvalidArgument);
  measured.tokens = 32;
  measured.transfer.pattern = TransferPattern::kScattered;
  EXPECT_EQ(run_layer_perf(measured, ignore).status().code(), StatusCode::kInvalidArgument);
}

TEST(TransferPerf, scattered_pieces_never_merge) {
  TransferCase measured;
  measured.piece_bytes = 4096;
  measured.pieces = 96;
  const TransferRow row = measured_row(measured);
  EXPECT_EQ(row.paper_calls, 96u);
  EXPECT_EQ(row.run_pair_calls, 96u);
  EXPECT_GT(row.bare_gb_per_s.median, 0);
}

TEST(TransferPerf, contiguous_pieces_are_one_run) {
  TransferCase measured;
  measured.pattern = TransferPattern::kContiguous;
  measured.piece_bytes = 4096;
  measured.pieces = 96;
  EXPECT_EQ(measured_row(measured).run_pair_calls, 1u);
}

TEST(TransferPerf, sixty_four_pieces_of_a_block_are_one_run_only_when_aggregated) {
  TransferCase measured;
  measured.piece_bytes = 4096;
  measured.pieces = 128;
  measured.pattern = TransferPattern::kDiscrete;
  EXPECT_EQ(measured_row(measured).run_pair_calls, 128u);
  measured.pattern = TransferPattern::kAggregated;
  EXPECT_EQ(measured_row(measured).run_pair_calls, 2u);
}

TEST(TransferPerf, pieces_that_lie_apart_at_one_side_alone_are_moved_both_ways) {
  for (const TransferPattern pattern :
       {TransferPattern::kDiscreteHere, TransferPattern::kDiscreteThere}) {
    for (const bool read : {false, true}) {
      TransferCase measured;
      measured.pattern = pattern;
      measured.read = read;
      measured.piece_bytes = 4096;
      measured.pieces = 128;
      EXPECT_EQ(measured_row(measured).run_pair_calls, 128u) << to_string(pattern) << read;
    }
  }
}

TEST(TransferPerf, read_brings_the_bytes_of_the_other_side) {
  TransferCase measured;
  measured.read = true;
  measured.piece_bytes = 4096;
  measured.pieces = 96;
  EXPECT_EQ(measured_row(measured).run_pair_calls, 96u);
}

TEST(TransferPerf, row_names_every_field_of_the_report) {
  const nlohmann::ordered_json row = to_json(TransferRow());
  for (const char* field :
       {"transport", "op", "pattern", "piece_bytes", "pieces", "verify", "gb_per_s", "prepare_us",
        "post_us", "complete_us", "cpu_s_per_gb", "paper_calls", "run_pair_calls", "network_calls",
        "system_calls", "ratio_to_bare"}) {
    EXPECT_TRUE(row.contains(field)) << field;
  }
}

TEST(TransferPerf, refused_row_has_its_reason_and_no_figures) {
  TransferCase measured;
  measured.transport = "shm";
  const TransferRow refused = refused_row(measured, unavailable("on another host"));
  const nlohmann::ordered_json json = to_json(refused);
  EXPECT_EQ(json.at("refused").at("code"), "UNAVAILABLE");
  EXPECT_EQ(json.at("refused").at("reason"), "on another host");
  EXPECT_FALSE(json.contains("gb_per_s"));
  EXPECT_THAT(transfer_table({refused}).text(),
              ::testing::HasSubstr("UNAVAILABLE: on another host\n"));
}

TEST(TransferPerf, columns_for_transport_and_refusal_come_where_rows_differ_in_them) {
  const TransferRow tcp;
  TransferRow shm;
  shm.measured.transport = "shm";
  using ::testing::HasSubstr;
  using ::testing::StartsWith;
  EXPECT_THAT(transfer_table({tcp}).text(), StartsWith("op "));
  EXPECT_THAT(transfer_table({tcp}).text(), HasSubstr(" bare GB/s"));
  EXPECT_THAT(transfer_table({shm}).text(), HasSubstr("memcpy GB/s"));
  EXPECT_THAT(transfer_table({shm, tcp}).text(), StartsWith("transport  op "));
  EXPECT_THAT(transfer_table({shm, tcp}).text(), ::testing::Not(HasSubstr("refused")));
}

TEST(TransferPerf, transport_that_does_not_exist_is_named) {
  TransferCase measured;
  measured.transport = "pigeon";
  const Status status = run_transfer_perf(measured, {}, [](uint32_t) {}).status();
  EXPECT_THAT(status.to_string(), ::testing::HasSubstr("pigeon"));
}

}  // namespace
}  // namespace mempool
