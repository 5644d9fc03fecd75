// SPDX-License-Identifier: Apache-2.0
// Tests the parts of the verbs backend that need no device: keys, notifications, options, errors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "transport/verbs/immediate.h"
#include "transport/verbs/send_lane.h"
#include "transport/verbs/remote_key.h"
#include "transport/verbs/verbs_options.h"
#include "transport/verbs/work_status.h"

namespace mempool {
namespace {

using testing::HasSubstr;

TEST(VerbsKey, reads_back_as_written) {
  const std::vector<std::byte> key = encode_remote_key(7, 3, {1 << 20, 0x7f0000001000, {11, 12}});
  const RemoteRegion read = decode_remote_key(key, 7, 3).value();
  EXPECT_EQ(read.bytes, uint64_t{1} << 20);
  EXPECT_EQ(read.address, 0x7f0000001000u);
  EXPECT_EQ(read.keys, (std::vector<uint32_t>{11, 12}));
}

TEST(VerbsKey, is_taken_for_no_other_region_incarnation_or_length) {
  std::vector<std::byte> key = encode_remote_key(7, 3, {100, 4096, {11}});
  EXPECT_EQ(decode_remote_key(key, 8, 3).status().code(), StatusCode::kStale);
  EXPECT_EQ(decode_remote_key(key, 7, 4).status().code(), StatusCode::kInvalidArgument);
  for (size_t length = 0; length < key.size(); ++length) {
    EXPECT_FALSE(decode_remote_key(std::span(key).first(length), 7, 3).ok()) << length;
  }
  key.push_back(std::byte{0});
  EXPECT_FALSE(decode_remote_key(key, 7, 3).ok());
}

TEST(VerbsKey, whose_region_wraps_around_the_address_space_is_refused) {
  const std::vector<std::byte> key = encode_remote_key(7, 3, {100, UINT64_MAX - 50, {11}});
  EXPECT_EQ(decode_remote_key(key, 7, 3).status().code(), StatusCode::kInvalidArgument);
}

TEST(Immediate, keeps_its_parts_apart) {
  for (const uint32_t lane : {0u, 5u, 15u}) {
    for (const uint32_t round : {0u, 1u, 255u}) {
      for (const uint32_t generation : {0u, 63u}) {
        for (const uint32_t slot : {0u, 1u, kSlotsMost - 1}) {
          const Immediate read = Immediate::of(Immediate{lane, round, generation, slot}.bits());
          EXPECT_EQ(read.lane, lane);
          EXPECT_EQ(read.round, round);
          EXPECT_EQ(read.generation, generation);
          EXPECT_EQ(read.slot, slot);
        }
      }
    }
  }
}

TEST(Immediate, has_the_low_bits_of_what_is_larger) {
  const Immediate read = Immediate::of(Immediate{1, 256 + 3, 64 + 9, 5}.bits());
  EXPECT_EQ(read.round, 3u);
  EXPECT_EQ(read.generation, 9u);
  EXPECT_EQ(read.lane, 1u);
}

TEST(Immediate, a_round_sent_again_is_no_later_one) {
  EXPECT_TRUE(is_later_round(1, 0));
  EXPECT_TRUE(is_later_round(0, 255));
  EXPECT_TRUE(is_later_round(10, 250));
  EXPECT_FALSE(is_later_round(7, 7));
  EXPECT_FALSE(is_later_round(6, 7));
  EXPECT_FALSE(is_later_round(255, 0));
}

TEST(WorkRing, goes_around_from_both_ends) {
  WorkRing ring(3);
  for (uint32_t round = 0; round < 10; ++round) {
    ring.push_back(1);
    ring.push_back(2);
    ring.push_front(0);
    EXPECT_EQ(ring.size(), 3u);
    EXPECT_EQ(ring.pop_front(), 0u);
    EXPECT_EQ(ring.pop_back(), 2u);
    EXPECT_EQ(ring.pop_front(), 1u);
    EXPECT_TRUE(ring.empty());
    ring.push_back(9);  // so that the next round begins elsewhere
    ring.pop_front();
  }
}

TEST(VerbsOptions, reads_what_config_gives) {
  const VerbsOptions options =
      VerbsOptions::parse({{"devices", "mlx5_0,mlx5_1:2"}, {"gid_index", "3"}, {"spin", "1"}})
          .value();
  EXPECT_EQ(options.devices, (std::vector<std::string>{"mlx5_0", "mlx5_1:2"}));
  EXPECT_EQ(options.gid_index, 3);
  EXPECT_TRUE(options.spin);
  EXPECT_EQ(VerbsOptions::parse({}).value().devices, std::vector<std::string>{"auto"});
}

TEST(VerbsOptions, what_is_none_is_named) {
  const std::pair<const char*, const char*> bad[] = {
      {"devices", ""},        {"devices", "auto,mlx5_0"}, {"mtu", "1500"},
      {"retries", "7"},       {"receiver_retries", "7"},  {"gid_index", "-2"},
      {"message_bytes", "1"}, {"queue_pairs", "0"},       {"timeout", "x"}};
  for (const auto& [key, value] : bad) {
    const Status status = VerbsOptions::parse({{key, value}}).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << key << " = " << value;
    EXPECT_THAT(std::string(status.message()), HasSubstr(key));
  }
}

TEST(WorkStatus, every_end_has_words_of_its_own_and_a_fault) {
  std::set<std::string> words;
  for (int i = IBV_WC_SUCCESS + 1; i <= IBV_WC_GENERAL_ERR; ++i) {
    const auto status = static_cast<ibv_wc_status>(i);
    const Status said = work_status(status, 0x81, "mlx5_0:1");
    EXPECT_FALSE(said.ok()) << ibv_wc_status_str(status);
    EXPECT_THAT(std::string(said.message()), HasSubstr("mlx5_0:1"));
    words.insert(std::string(said.message()));
    const bool path = fault_of(status) == WorkFault::kPath;
    EXPECT_EQ(said.code() == StatusCode::kUnavailable, path) << ibv_wc_status_str(status);
  }
  EXPECT_EQ(words.size(), static_cast<size_t>(IBV_WC_GENERAL_ERR));
  EXPECT_TRUE(work_status(IBV_WC_SUCCESS, 0, "mlx5_0:1").ok());
  EXPECT_EQ(work_status(IBV_WC_REM_ACCESS_ERR, 0, "").code(), StatusCode::kPermissionDenied);
}

}  // namespace
}  // namespace mempool
