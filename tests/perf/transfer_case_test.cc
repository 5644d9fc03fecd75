// SPDX-License-Identifier: Apache-2.0
// Owns the tests of what a transfer case asks for.
#include "perf/transfer_case.h"

#include <algorithm>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mempool {
namespace {

TransferCase case_of(TransferPattern pattern, uint64_t piece_bytes, uint64_t pieces) {
  TransferCase measured;
  measured.pattern = pattern;
  measured.piece_bytes = piece_bytes;
  measured.pieces = pieces;
  return measured;
}

class EveryPattern : public ::testing::TestWithParam<TransferPattern> {};

TEST_P(EveryPattern, piece_has_the_bytes_that_were_asked_for) {
  for (const uint64_t bytes : {4096u, 32768u, 163840u}) {
    const TransferShape shape = shape_of(case_of(GetParam(), bytes, 128)).value();
    for (const Placement& placement : {shape.placement, shape.serving_placement}) {
      const BlockLayout layout = make_layout(shape.content, placement, shape.blocks).value();
      EXPECT_EQ(layout.piece_bytes, bytes);
      EXPECT_EQ(layout.layers * layout.parts, shape.pieces_per_block);
    }
    EXPECT_EQ(shape.pieces(), 128u);
  }
}

TEST_P(EveryPattern, name_reads_back) {
  EXPECT_EQ(parse_transfer_pattern(to_string(GetParam())).value(), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Patterns, EveryPattern,
                         ::testing::Values(TransferPattern::kScattered,
                                           TransferPattern::kContiguous, TransferPattern::kDiscrete,
                                           TransferPattern::kAggregated,
                                           TransferPattern::kDiscreteHere,
                                           TransferPattern::kDiscreteThere),
                         [](const auto& each) { return std::string(to_string(each.param)); });

TEST(TransferCase, pieces_are_rounded_up_to_whole_blocks) {
  EXPECT_EQ(shape_of(case_of(TransferPattern::kDiscrete, 4096, 65)).value().pieces(), 128u);
}

TEST(TransferCase, no_number_of_pieces_means_256_mib_or_16384_pieces) {
  EXPECT_EQ(shape_of(case_of(TransferPattern::kScattered, 4096, 0)).value().pieces(), 16384u);
  EXPECT_EQ(shape_of(case_of(TransferPattern::kScattered, 1 << 20, 0)).value().pieces(), 256u);
}

TEST(TransferCase, size_that_makes_no_piece_is_refused_with_the_unit) {
  const Status status = shape_of(case_of(TransferPattern::kScattered, 100, 1)).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("a multiple of 64"));
}

TEST(TransferCase, scattered_list_is_a_permutation_that_is_not_in_order) {
  std::vector<uint32_t> order =
      list_order(shape_of(case_of(TransferPattern::kScattered, 4096, 100)).value());
  EXPECT_FALSE(std::ranges::is_sorted(order));
  std::ranges::sort(order);
  std::vector<uint32_t> all(100);
  std::iota(all.begin(), all.end(), 0u);
  EXPECT_EQ(order, all);
}

TEST(TransferCase, pieces_are_listed_by_layer_and_part_or_by_block_as_they_lie_at_the_other_side) {
  const auto first_two = [](TransferPattern pattern) {
    const std::vector<ListedPiece> order =
        piece_order(shape_of(case_of(pattern, 4096, 128)).value());
    EXPECT_EQ(order.size(), 128u);
    return std::vector<uint32_t>{order[0].position, order[0].piece, order[1].position,
                                 order[1].piece};
  };
  EXPECT_THAT(first_two(TransferPattern::kDiscrete), ::testing::ElementsAre(0, 0, 1, 0));
  EXPECT_THAT(first_two(TransferPattern::kDiscreteThere), ::testing::ElementsAre(0, 0, 1, 0));
  EXPECT_THAT(first_two(TransferPattern::kAggregated), ::testing::ElementsAre(0, 0, 0, 1));
  EXPECT_THAT(first_two(TransferPattern::kDiscreteHere), ::testing::ElementsAre(0, 0, 0, 1));
}

TEST(TransferCase, no_two_repeats_share_their_first_token) {
  const TransferShape shape = shape_of(case_of(TransferPattern::kScattered, 4096, 2)).value();
  EXPECT_EQ(tokens_of(shape, 3), tokens_of(shape, 3));
  EXPECT_NE(tokens_of(shape, 3).front(), tokens_of(shape, 4).front());
}

TEST(TransferCase, filled_piece_holds_only_what_it_was_filled_with) {
  std::vector<std::byte> bytes(4096);
  fill_piece(bytes, 5, 1);
  EXPECT_TRUE(holds_piece(bytes, 5, 1));
  EXPECT_FALSE(holds_piece(bytes, 5, 2));
  EXPECT_FALSE(holds_piece(bytes, 6, 1));
  bytes.back() ^= std::byte{1};
  EXPECT_FALSE(holds_piece(bytes, 5, 1));
}

TEST(TransferCase, printed_case_is_read_back_as_it_was) {
  TransferCase measured = case_of(TransferPattern::kDiscrete, 4096, 128);
  measured.transport = "shm";
  measured.read = true;
  measured.repeat = 3;
  measured.streams = 4;
  measured.copy_threads = 5;
  measured.send_buffer = 6;
  measured.receive_buffer = 7;
  measured.verify = "always";
  const TransferCase read = parse_case(print_case(measured)).value();
  EXPECT_EQ(print_case(read), print_case(measured));
  EXPECT_EQ(describe(read), "read over shm, discrete, 128 pieces of 4KiB");
}

TEST(TransferCase, text_that_is_no_case_is_refused) {
  const std::string good = print_case(case_of(TransferPattern::kScattered, 4096, 1));
  std::string shapeless = good;
  shapeless.replace(shapeless.find("4096"), 4, "4097");
  std::string unknown = good;
  unknown.replace(unknown.find("scattered"), 9, "scattery!");
  for (const std::string& text : {std::string(), good.substr(1), shapeless, unknown,
                                  std::string("[]"), std::string(R"({"transport": 1})")}) {
    EXPECT_EQ(parse_case(text).status().code(), StatusCode::kInvalidArgument) << text;
  }
}

TEST(TransferCase, an_end_takes_the_settings_of_the_cases_transport_but_not_what_the_case_says) {
  const TransferSite site{
      .transport_options = {{"verbs.devices", "rxe0"}, {"tcp.streams", "9"}, {"tcp.port", "7"}}};
  TransferCase measured;
  measured.transport = "verbs";
  EXPECT_EQ(options_at(site, measured),
            (std::map<std::string, std::string>{{"verbs.devices", "rxe0"}}));
  measured.transport = "tcp";
  measured.streams = 2;
  const std::map<std::string, std::string> options = options_at(site, measured);
  EXPECT_EQ(options.at("tcp.streams"), "2");
  EXPECT_EQ(options.at("tcp.port"), "7");
  EXPECT_FALSE(options.contains("verbs.devices"));
}

}  // namespace
}  // namespace mempool
