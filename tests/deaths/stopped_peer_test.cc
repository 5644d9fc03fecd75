// SPDX-License-Identifier: Apache-2.0
// Owns the checks of a peer process that is stopped amid a transfer past every deadline, and then
// goes on.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <string>

#include "tests/deaths/peer_death.h"

namespace mempool {
namespace {

using namespace std::chrono_literals;
using testing::fill;
using testing::holds;
using testing::kLargePoolBlocks;
using testing::kLargePromptBlocks;
using testing::ToldChild;
using testing::wait_until;

class StoppedPeerTest : public testing::PeerDeathTest {
 protected:
  AgentOptions survivor_options() const override {
    AgentOptions options = PeerDeathTest::survivor_options();
    options.fence_timeout = 2000ms;  // the quarantine is looked at meanwhile
    return options;
  }
  /// Take every block and give it bytes that nobody sent.
  std::vector<BlockAddress> fill_pool() {
    auto others = *survivor_->alloc(kLargePoolBlocks);
    for (const BlockAddress& block : others) fill(*survivor_, block, 251);
    return others;
  }
  void expect_untouched(const std::vector<BlockAddress>& others) {
    for (const BlockAddress& block : others) EXPECT_TRUE(holds(*survivor_, block, 251));
    EXPECT_TRUE(survivor_->free(others).ok());
  }
  /// Let the child begin transfers until one is stopped so that it never ends, and wait until its
  /// blocks here have been set aside.
  bool stop_in_a_transfer(ToldChild& child) {
    for (TokenId first = 1; first < 100; ++first) {
      child.tell("send survivor " + std::to_string(first) + " 1000");
      const auto has_begun = [this] { return count("reserved") + count("published") > 0; };
      if (!wait_until(has_begun)) return false;
      child.stop();
      // All of it may have been on its way already; then it arrives.
      const auto is_decided = [this] { return count("quarantined") + count("published") > 0; };
      if (!wait_until(is_decided)) return false;
      if (count("published") == 0) return true;
      child.go_on();
      if (child.answer() != "OK") return false;
      take_arrival(first);
    }
    return false;
  }
  /// The session that this agent has dialed.
  bool dialed_is_up() const {
    const auto peers = survivor_->status().peers;
    return std::ranges::any_of(
        peers, [](const AgentStatus::Peer& peer) { return peer.role == "target" && peer.up; });
  }
};

TEST_P(StoppedPeerTest, a_stopped_source_is_fenced_harms_nobody_and_can_come_back) {
  ToldChild child(GetParam());
  introduce(child);
  ASSERT_TRUE(stop_in_a_transfer(child));
  const AgentStatus aside = survivor_->status();
  EXPECT_EQ(aside.quarantine, (std::map<std::string, uint64_t>{{"child", kLargePromptBlocks}}));
  EXPECT_NE(survivor_->metrics().find("mempool_quarantine_blocks{peer=\"child\"} 48"),
            std::string::npos);
  ASSERT_TRUE(all_free());

  const auto others = fill_pool();
  child.go_on();
  const std::string ended = child.answer();
  EXPECT_TRUE(ended == "DEADLINE_EXCEEDED" || ended == "UNAVAILABLE") << ended;
  expect_untouched(others);
  EXPECT_EQ(child.ask("count free"), "64");

  std::string sent;
  wait_until([&] {
    sent = child.ask("send survivor 1003 30000");
    return sent != "UNAVAILABLE";
  });
  EXPECT_EQ(sent, "OK");
  take_arrival(1003);
}

class StoppedTargetTest : public StoppedPeerTest {
 protected:
  AgentOptions survivor_options() const override {
    AgentOptions options = StoppedPeerTest::survivor_options();
    options.peer_timeout = 3000ms;  // ends while the child stands still
    return options;
  }
};

TEST_P(StoppedTargetTest, a_stopped_target_holds_up_nobody_and_tells_nothing_later) {
  ToldChild child(GetParam());
  introduce(child);
  Transfer transfer = begin(1, 8, 1000ms);
  ASSERT_TRUE(wait_until([&] { return child.ask("count reserved") == "48"; }));
  child.stop();
  ASSERT_TRUE(transfer.send_layers(8, 8).ok());
  ASSERT_TRUE(transfer.commit().ok());
  EXPECT_EQ(transfer.wait().code(), StatusCode::kDeadlineExceeded) << transfer.wait().to_string();
  ASSERT_TRUE(survivor_->unpin(blocks_).ok());
  ASSERT_TRUE(all_free()) << "while the target stands still";

  const auto others = fill_pool();  // what the target may still copy is not what was sent
  ASSERT_TRUE(wait_until([this] { return !dialed_is_up(); }));
  child.go_on();
  EXPECT_TRUE(wait_until([&] { return child.ask("count free") == "64"; }));
  EXPECT_EQ(child.ask("match 1"), "0");
  expect_untouched(others);

  send(7);
  EXPECT_EQ(child.ask("take 7"), "OK");
  EXPECT_EQ(child.ask("match 7"), "192");
}

INSTANTIATE_TEST_SUITE_P(Over, StoppedPeerTest, ::testing::Values("tcp", "shm"),
                         testing::transport_of);
INSTANTIATE_TEST_SUITE_P(Over, StoppedTargetTest, ::testing::Values("tcp", "shm"),
                         testing::transport_of);

}  // namespace
}  // namespace mempool
