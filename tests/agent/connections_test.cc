// SPDX-License-Identifier: Apache-2.0
// Owns the checks of agents that may have fewer connections than they have peers.
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "mempool/agent.h"
#include "tests/agent/agent_pair.h"

namespace mempool {
namespace {

using namespace std::chrono_literals;
using testing::filled_blocks;
using testing::hold;
using testing::make_tokens;
using testing::small_options;
using testing::small_spec;
using testing::start_agent;

constexpr size_t kPeers = 5;

class ConnectionsTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    source_ = start_agent(options("source"));
    ASSERT_NE(source_, nullptr);
    for (size_t i = 0; i < kPeers; ++i) {
      peers_.push_back(start_agent(options(name(i))));
      ASSERT_NE(peers_.back(), nullptr);
      source_->add_peer(name(i), peers_.back()->status().listen);
      peers_.back()->add_peer("source", source_->status().listen);
    }
  }
  void TearDown() override {
    for (const auto& agent : peers_) expect_whole(*agent);
    expect_whole(*source_);
  }
  static void expect_whole(Agent& agent) {
    const AgentStatus status = agent.status();
    EXPECT_TRUE(status.audit.ok()) << status.audit.to_string();
    EXPECT_EQ(status.blocks.at("quarantined"), 0u) << status.name;
  }

  static std::string name(size_t peer) { return "peer" + std::to_string(peer); }
  static AgentOptions options(const std::string& name) {
    AgentOptions options = small_options(name, GetParam());
    options.max_connections = 2;
    // Nothing but a goodbye may end a session here, however busy the machine is.
    options.heartbeat = 20s;
    options.peer_timeout = 60s;
    options.default_deadline = 60s;
    return options;
  }

  size_t targets_of(const Agent& agent) const {
    const AgentStatus status = agent.status();
    return std::ranges::count(status.peers, "target", &AgentStatus::Peer::role);
  }
  /// Bring two blocks to the agent and look at what arrives there.
  void send(Agent& from, const std::string& to, Agent& at, TokenId first) {
    const auto tokens = make_tokens(8, first);
    const auto blocks = filled_blocks(from, tokens);
    auto transfer = from.transfer_with_insert(to, {content_, tokens}, blocks);
    const Status sent = transfer.ok() ? transfer->wait() : transfer.status();
    EXPECT_TRUE(sent.ok()) << sent.to_string();
    EXPECT_TRUE(from.free(blocks).ok());
    const auto arrival = at.receive(60s);
    ASSERT_TRUE(arrival.ok()) << arrival.status().to_string();
    EXPECT_TRUE(hold(at, arrival->blocks, arrival->tokens));
    EXPECT_TRUE(at.unpin(arrival->blocks).ok());
    at.erase({content_, std::span(arrival->tokens).first(4)});
  }
  void send(size_t peer, TokenId first) { send(*source_, name(peer), *peers_[peer], first); }

  const Content content_ = *make_content(small_spec());
  std::unique_ptr<Agent> source_;
  std::vector<std::unique_ptr<Agent>> peers_;
};

TEST_P(ConnectionsTest, five_peers_share_two_connections_under_load) {
  std::vector<std::thread> senders;
  for (size_t peer = 0; peer < kPeers; ++peer) {
    senders.emplace_back([this, peer] {
      for (TokenId round = 0; round < 20; ++round) {
        send(peer, static_cast<TokenId>(peer * 1000 + round * 10));
        EXPECT_LE(targets_of(*source_), 2u);
      }
    });
  }
  for (std::thread& sender : senders) sender.join();
  const std::string metrics = source_->metrics();
  EXPECT_NE(metrics.find("mempool_connections 2\n"), std::string::npos) << metrics;
  EXPECT_EQ(metrics.find("mempool_connections_closed_total 0\n"), std::string::npos);
}

TEST_P(ConnectionsTest, a_session_closed_for_another_peer_leaves_no_trace_and_is_made_again) {
  send(0, 1);
  send(1, 2);
  send(2, 3);  // the first one's makes room
  EXPECT_EQ(peers_[0]->metrics().find("mempool_peer_up{"), std::string::npos);
  EXPECT_TRUE(peers_[0]->status().peers.empty());
  EXPECT_EQ(source_->metrics().find("peer0"), std::string::npos);
  send(0, 4);
  EXPECT_EQ(targets_of(*source_), 2u);
}

TEST_P(ConnectionsTest, what_goes_the_other_way_does_not_notice) {
  const auto tokens = make_tokens(8, 501);
  const auto blocks = filled_blocks(*peers_[0], tokens);
  TransferOptions by_layer;
  by_layer.mode = TransferMode::kByLayer;
  auto back = peers_[0]->transfer_with_insert("source", {content_, tokens}, blocks, by_layer);
  ASSERT_TRUE(back.ok()) << back.status().to_string();
  ASSERT_TRUE(back->send_layers(0, 1).ok());
  for (size_t peer : {0, 1, 2}) send(peer, static_cast<TokenId>(peer));
  ASSERT_TRUE(back->send_layers(1, 2).ok());
  ASSERT_TRUE(back->commit().ok());
  EXPECT_TRUE(back->wait().ok()) << back->wait().to_string();
  const auto arrival = source_->receive(60s);
  ASSERT_TRUE(arrival.ok()) << arrival.status().to_string();
  EXPECT_TRUE(hold(*source_, arrival->blocks, tokens));
}

TEST_P(ConnectionsTest, connections_that_are_in_use_are_kept_until_the_deadline_of_who_waits) {
  std::vector<Transfer> open;
  std::vector<std::vector<TokenId>> prompts;
  for (size_t peer : {0, 1}) {  // begun by layer, and held open
    prompts.push_back(make_tokens(8, static_cast<TokenId>(100 * peer)));
    TransferOptions by_layer;
    by_layer.mode = TransferMode::kByLayer;
    auto begun = source_->transfer_with_insert(name(peer), {content_, prompts.back()},
                                               filled_blocks(*source_, prompts.back()), by_layer);
    ASSERT_TRUE(begun.ok()) << begun.status().to_string();
    open.push_back(std::move(*begun));
  }
  const auto tokens = make_tokens(8, 700);
  const auto blocks = filled_blocks(*source_, tokens);
  TransferOptions soon;
  soon.deadline = 200ms;
  auto late = source_->transfer_with_insert(name(2), {content_, tokens}, blocks, soon);
  ASSERT_TRUE(late.ok());
  const Status ended = late->wait();
  EXPECT_EQ(ended.code(), StatusCode::kDeadlineExceeded);
  EXPECT_NE(ended.message().find("limits.max_connections"), std::string_view::npos);

  auto waits = source_->transfer_with_insert(name(2), {content_, tokens}, blocks);
  ASSERT_TRUE(waits.ok());
  ASSERT_TRUE(open[1].send_layers(0, 3).ok());
  ASSERT_TRUE(open[1].commit().ok());
  EXPECT_TRUE(open[1].wait().ok());
  EXPECT_TRUE(waits->wait().ok()) << waits->wait().to_string();  // over what was the other's
  ASSERT_TRUE(open[0].send_layers(0, 3).ok());
  ASSERT_TRUE(open[0].commit().ok());
  EXPECT_TRUE(open[0].wait().ok()) << open[0].wait().to_string();
}

INSTANTIATE_TEST_SUITE_P(Over, ConnectionsTest, ::testing::Values("tcp", "shm"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Connections, a_source_without_any_is_refused) {
  AgentOptions options = small_options("a");
  options.max_connections = 0;
  const auto agent = Agent::start(options);
  EXPECT_EQ(agent.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(agent.status().message().find("max_connections"), std::string_view::npos);
}

}  // namespace
}  // namespace mempool
