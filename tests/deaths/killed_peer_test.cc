// SPDX-License-Identifier: Apache-2.0
// Owns the checks of a peer process that is killed at the worst moments, and of its next life.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "tests/deaths/peer_death.h"

namespace mempool {
namespace {

using namespace std::chrono_literals;
using testing::filled_blocks;
using testing::holds;
using testing::kLargePoolBlocks;
using testing::kLargePromptBlocks;
using testing::kLargePromptTokens;
using testing::make_tokens;
using testing::ToldChild;
using testing::wait_until;

/// An address as told_agent reads it.
std::string to_words(const BlockAddress& address) {
  return std::to_string(address.incarnation) + " " + std::to_string(address.generation) + " " +
         std::to_string(address.place);
}

class KilledPeerTest : public testing::PeerDeathTest {
 protected:
  /// The addresses that the blocks of an empty pool will have when they are taken next.
  std::vector<BlockAddress> next_addresses() {
    auto blocks = *survivor_->alloc(kLargePoolBlocks);
    EXPECT_TRUE(survivor_->free(blocks).ok());
    for (BlockAddress& block : blocks) ++block.generation;
    return blocks;
  }
  /// Whether some block holds the whole KV of each token's block.
  bool landed(const std::vector<BlockAddress>& blocks, TokenId first) {
    for (TokenId token = first; token < first + kLargePromptTokens; token += 4) {
      const auto holds_it = [&](const BlockAddress& block) {
        return holds(*survivor_, block, token);
      };
      if (std::ranges::none_of(blocks, holds_it)) return false;
    }
    return true;
  }
  void expect_ended(const Transfer& transfer) {
    EXPECT_EQ(transfer.wait().code(), StatusCode::kUnavailable) << transfer.wait().to_string();
    EXPECT_TRUE(survivor_->unpin(blocks_).ok());
    EXPECT_TRUE(all_free());
  }
};

TEST_P(KilledPeerTest, a_source_killed_amid_its_data_leaves_nothing) {
  int cut_off = 0;
  TokenId first = 1;
  for (; first < 100 && cut_off < 3; ++first) {
    ToldChild child(GetParam());
    introduce(child);
    child.tell("send survivor " + std::to_string(first) + " 30000");
    ASSERT_TRUE(wait_until([this] { return count("reserved") + count("published") > 0; }));
    child.kill();
    // All of it may have been on its way already; then it arrives.
    ASSERT_TRUE(wait_until([this] { return count("reserved") + count("quarantined") == 0; }));
    if (count("published") > 0) {
      take_arrival(first);
    } else {
      expect_nothing_of(first);
      ++cut_off;
    }
  }
  EXPECT_EQ(cut_off, 3);
  ToldChild next_life(GetParam());
  introduce(next_life);
  EXPECT_EQ(next_life.ask("send survivor " + std::to_string(first) + " 30000"), "OK");
  take_arrival(first);
}

TEST_P(KilledPeerTest, a_source_killed_between_its_data_and_its_commit_publishes_nothing) {
  const auto blocks = next_addresses();
  ToldChild child(GetParam());
  introduce(child);
  ASSERT_EQ(child.ask("begin survivor 1 16"), "OK");
  ASSERT_TRUE(wait_until([&] { return landed(blocks, 1); }));
  EXPECT_EQ(count("reserved"), kLargePromptBlocks);
  EXPECT_EQ(matched(1), 0u);
  child.kill();
  expect_nothing_of(1);
}

TEST_P(KilledPeerTest, a_target_killed_after_its_reservation_ends_the_call) {
  for (const uint32_t layers : {0u, 8u, 16u}) {
    ToldChild child(GetParam());
    introduce(child);
    const Transfer transfer = begin(1 + layers, layers, 10min);
    ASSERT_TRUE(wait_until([&] { return child.ask("count reserved") == "48"; }));
    child.kill();
    expect_ended(transfer);
  }
}

TEST_P(KilledPeerTest, a_target_killed_amid_the_data_ends_the_call) {
  int cut_off = 0;
  for (TokenId first = 1; first < 100 && cut_off < 3; ++first) {
    ToldChild child(GetParam());
    introduce(child);
    Transfer transfer = begin(first, 16, 10min);
    ASSERT_TRUE(transfer.commit().ok());
    ASSERT_TRUE(wait_until([&] { return child.ask("count free") == "16"; }));
    child.kill();
    const Status ended = transfer.wait();
    EXPECT_TRUE(ended.ok() || ended.code() == StatusCode::kUnavailable) << ended.to_string();
    EXPECT_TRUE(survivor_->unpin(blocks_).ok());
    EXPECT_TRUE(all_free());
    cut_off += !ended.ok();
  }
  EXPECT_EQ(cut_off, 3);
}

TEST_P(KilledPeerTest, a_target_restarted_at_once_has_nothing_of_its_old_life) {
  BlockAddress old_address;
  std::string listen = "127.0.0.2:0";  // nobody else binds ports of this host meanwhile
  {
    ToldChild child(GetParam(), listen);
    introduce(child);
    old_address = send(1).report().serving.front();
    ASSERT_EQ(child.ask("take 1"), "OK");
    listen = child.address();
    child.kill();
  }
  ToldChild child(GetParam(), listen);
  ASSERT_EQ(child.address(), listen);
  const auto tokens = make_tokens(kLargePromptTokens, 1);
  auto fetched = survivor_->fetch("child", {content_, tokens});
  ASSERT_TRUE(fetched.ok());
  if (fetched->wait().code() == StatusCode::kUnavailable) {  // the old session was not over yet
    fetched = survivor_->fetch("child", {content_, tokens});
    ASSERT_TRUE(fetched.ok());
  }
  ASSERT_TRUE(fetched->wait().ok()) << fetched->wait().to_string();
  EXPECT_EQ(fetched->report().serving.size(), 0u);
  const BlockAddress new_address = send(7).report().serving.front();
  EXPECT_EQ(child.ask("take 7"), "OK");
  ASSERT_EQ(new_address.place, old_address.place);
  ASSERT_EQ(new_address.generation, old_address.generation);
  EXPECT_EQ(child.ask("read " + to_words(old_address)), "STALE");
  EXPECT_EQ(child.ask("read " + to_words(new_address)), "OK");
  EXPECT_EQ(child.ask("match 1"), "0");
  EXPECT_EQ(child.ask("match 7"), "192");
}

TEST_P(KilledPeerTest, what_was_begun_in_the_old_life_of_a_target_ends_in_it) {
  std::string listen = "127.0.0.2:0";
  Transfer begun = [&] {
    ToldChild child(GetParam(), listen);
    introduce(child);
    listen = child.address();
    const Transfer transfer = begin(1, 8, 10min);
    EXPECT_TRUE(wait_until([&] { return child.ask("count reserved") == "48"; }));
    return transfer;
  }();
  ToldChild child(GetParam(), listen);
  expect_ended(begun);
  EXPECT_EQ(begun.commit().code(), StatusCode::kUnavailable);
  send(7);  // at the first attempt: the old session ended with the call
  EXPECT_EQ(child.ask("take 7"), "OK");
  EXPECT_EQ(child.ask("match 1"), "0");
  EXPECT_EQ(child.ask("count free"), "16");
}

INSTANTIATE_TEST_SUITE_P(Over, KilledPeerTest, ::testing::Values("tcp", "shm"),
                         testing::transport_of);

}  // namespace
}  // namespace mempool
