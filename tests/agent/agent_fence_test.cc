// SPDX-License-Identifier: Apache-2.0
// Owns the checks of a fence between two agents that send to each other: what it takes of either
// direction, and that both work again.
#include <atomic>
#include <optional>
#include <thread>

#include <gtest/gtest.h>

#include "mempool/agent.h"
#include "tests/agent/agent_pair.h"
#include "tests/agent/frozen_agent.h"

namespace mempool {
namespace {

using namespace std::chrono_literals;
using testing::fill;
using testing::filled_blocks;
using testing::FrozenAgent;
using testing::holds;
using testing::make_tokens;
using testing::small_options;
using testing::small_spec;
using testing::start_agent;
using testing::wait_until;

class FenceTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    left_ = start_agent(options("left"));
    right_ = start_agent(options("right"));
    ASSERT_NE(left_, nullptr);
    ASSERT_NE(right_, nullptr);
    left_->add_peer("right", right_->status().listen);
    right_->add_peer("left", left_->status().listen);
    send_until_it_arrives(*left_, "right", *right_, 1);
    send_until_it_arrives(*right_, "left", *left_, 2);
  }
  void TearDown() override {
    for (Agent* agent : {left_.get(), right_.get()}) {
      const AgentStatus status = agent->status();
      EXPECT_TRUE(status.audit.ok()) << status.audit.to_string();
    }
  }
  static AgentOptions options(const std::string& name) {
    AgentOptions options = small_options(name, GetParam());
    // Only the fence may end a session here: a frozen agent owes its heartbeat for longer.
    options.heartbeat = 20s;
    options.peer_timeout = 60s;
    options.default_deadline = 60s;
    return options;
  }

  /// Send two blocks, again while the peer is not there, and look at what arrives.
  void send_until_it_arrives(Agent& from, const std::string& to, Agent& at, TokenId first) {
    const auto tokens = make_tokens(8, first);
    const auto blocks = filled_blocks(from, tokens);
    Status sent;
    wait_until([&] {
      auto transfer = from.transfer_with_insert(to, {content_, tokens}, blocks);
      sent = transfer.ok() ? transfer->wait() : transfer.status();
      return sent.code() != StatusCode::kUnavailable;
    });
    ASSERT_TRUE(sent.ok()) << sent.to_string();
    EXPECT_TRUE(from.free(blocks).ok());
    const auto arrival = at.receive(30s);
    ASSERT_TRUE(arrival.ok()) << arrival.status().to_string();
    look_at(at, *arrival);
  }
  /// Check an arrival's bytes, and give its blocks back.
  void look_at(Agent& at, const Arrival& arrival) {
    for (size_t i = 0; i < arrival.blocks.size(); ++i) {
      EXPECT_TRUE(holds(at, arrival.blocks[i], arrival.tokens[i * 4])) << arrival.tokens[0];
    }
    EXPECT_TRUE(at.unpin(arrival.blocks).ok());
    at.erase({content_, std::span(arrival.tokens).first(4)});
  }

  /// Freeze the left agent between its offer to the right one, which reserves, and the data.
  /// Gives the call; its blocks stay the caller's.
  Transfer freeze_with_an_open_offer(std::span<const TokenId> tokens,
                                     std::span<const BlockAddress> blocks) {
    std::optional<FrozenAgent> first(std::in_place, *left_, Prompt{content_, tokens}, blocks);
    first->stand_still();
    TransferOptions options;
    options.deadline = 100ms;
    auto transfer = left_->transfer_with_insert("right", {content_, tokens}, blocks, options);
    EXPECT_TRUE(transfer.ok()) << transfer.status().to_string();
    frozen_.emplace(*left_, Prompt{content_, tokens}, blocks);
    first.reset();  // the offer goes out, and the next callback holds the thread
    frozen_->stand_still();
    EXPECT_TRUE(wait_until([this] { return right_->status().blocks.at("reserved") > 0; }));
    return *transfer;
  }
  void go_on() { frozen_.reset(); }
  bool right_has_fenced() const {
    const AgentStatus status = right_->status();
    return status.blocks.at("reserved") + status.blocks.at("quarantined") == 0;
  }

  const Content content_ = *make_content(small_spec());
  std::unique_ptr<Agent> left_;
  std::unique_ptr<Agent> right_;
  std::optional<FrozenAgent> frozen_;
};

TEST_P(FenceTest, a_fence_of_one_direction_ends_the_calls_of_the_other) {
  const auto tokens = make_tokens(20, 1001);
  const auto blocks = filled_blocks(*left_, tokens);
  const auto back_tokens = make_tokens(8, 2002);
  const auto back_blocks = filled_blocks(*right_, back_tokens);
  const Transfer there = freeze_with_an_open_offer(tokens, blocks);
  const auto back = right_->transfer_with_insert("left", {content_, back_tokens}, back_blocks);
  ASSERT_TRUE(back.ok());
  EXPECT_TRUE(wait_until([this] { return right_->status().quarantine["left"] == 5; }));
  EXPECT_TRUE(wait_until([this] { return right_has_fenced(); }));
  EXPECT_EQ(back->wait().code(), StatusCode::kUnavailable);  // while the left one still is frozen
  EXPECT_TRUE(right_->free(back_blocks).ok());

  // What the fence freed is somebody else's now; nothing of the left one's may land in it.
  const auto others = right_->alloc(64);
  ASSERT_TRUE(others.ok()) << others.status().to_string();
  for (const BlockAddress& block : *others) fill(*right_, block, 77);
  go_on();
  const Status ended = there.wait();
  EXPECT_TRUE(ended.code() == StatusCode::kDeadlineExceeded ||
              ended.code() == StatusCode::kUnavailable)
      << ended.to_string();
  for (const BlockAddress& block : *others) EXPECT_TRUE(holds(*right_, block, 77));
  ASSERT_TRUE(right_->free(*others).ok());
  ASSERT_TRUE(left_->free(blocks).ok());

  send_until_it_arrives(*left_, "right", *right_, 1001);
  send_until_it_arrives(*right_, "left", *left_, 2002);
}

TEST_P(FenceTest, fences_under_traffic_of_the_other_direction_never_bring_wrong_bytes) {
  std::atomic<bool> enough = false;
  std::atomic<int> arrived = 0;
  std::thread sender([&] {
    int sent_well = 0;
    for (TokenId i = 0; !enough; ++i) {
      const auto tokens = make_tokens(24, 5000 + 37 * i);
      const auto blocks = filled_blocks(*right_, tokens);
      const auto back = right_->transfer_with_insert("left", {content_, tokens}, blocks);
      const Status sent = back.ok() ? back->wait() : back.status();
      EXPECT_TRUE(sent.ok() || sent.code() == StatusCode::kUnavailable) << sent.to_string();
      EXPECT_TRUE(right_->unpin(blocks).ok());
      if (sent.ok()) ++sent_well;
      wait_until([&] { return arrived >= sent_well || enough; });  // else the pool fills up
    }
  });
  std::thread receiver([&] {
    while (!enough) {
      const auto arrival = left_->receive(10ms);
      if (!arrival.ok()) continue;
      look_at(*left_, *arrival);
      ++arrived;
    }
  });
  for (int round = 0; round < 3; ++round) {
    const int before = arrived;
    EXPECT_TRUE(wait_until([&] { return arrived > before; })) << "round " << round;
    const auto tokens = make_tokens(20, 1001);
    const auto blocks = filled_blocks(*left_, tokens);
    const Transfer there = freeze_with_an_open_offer(tokens, blocks);
    EXPECT_TRUE(wait_until([this] { return right_has_fenced(); }));
    go_on();
    EXPECT_FALSE(there.wait().ok());
    EXPECT_TRUE(left_->unpin(blocks).ok());
    send_until_it_arrives(*left_, "right", *right_, 1001);
  }
  enough = true;
  sender.join();
  receiver.join();
  while (true) {  // what came after the receiver had ended
    const auto arrival = left_->receive(0ms);
    if (!arrival.ok()) break;
    look_at(*left_, *arrival);
  }
  send_until_it_arrives(*right_, "left", *left_, 2002);
}

INSTANTIATE_TEST_SUITE_P(Transports, FenceTest, ::testing::Values("local", "tcp"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace mempool
