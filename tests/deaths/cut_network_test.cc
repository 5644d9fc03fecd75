// SPDX-License-Identifier: Apache-2.0
// Owns the checks of a network that loses or resets one direction amid a transfer, and heals.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "mempool/agent.h"
#include "tests/agent/agent_pair.h"
#include "tests/deaths/large_kv.h"
#include "tests/deaths/network_namespace.h"

namespace mempool {
namespace {

using namespace std::chrono_literals;
using testing::fill;
using testing::filled_blocks;
using testing::hold;
using testing::holds;
using testing::kLargePromptTokens;
using testing::large_options;
using testing::large_spec;
using testing::make_tokens;
using testing::NetworkNamespace;
using testing::start_agent;
using testing::wait_until;

constexpr char kSourceHost[] = "127.0.0.1";  // loopback's connections come from here
constexpr char kTargetHost[] = "127.0.0.2";

/// A source and a target on two hosts of a network of their own. Thread: confined.
class CutNetworkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto network = NetworkNamespace::enter();
    if (!network.ok()) GTEST_SKIP() << network.status().to_string();
    network_ = std::move(*network);
  }
  void start(std::chrono::milliseconds peer_timeout, std::chrono::milliseconds fence_timeout) {
    AgentOptions options = large_options("source", "tcp");
    options.peer_timeout = peer_timeout;
    source_ = start_agent(options);
    options.name = "target";
    options.listen = std::string(kTargetHost) + ":0";
    options.fence_timeout = fence_timeout;
    target_ = start_agent(options);
    source_->add_peer("target", target_->status().listen);
  }
  void TearDown() override {
    for (const Agent* agent : {source_.get(), target_.get()}) {
      if (agent == nullptr) continue;  // the test was skipped
      EXPECT_TRUE(agent->status().audit.ok());
    }
    source_.reset();
    target_.reset();
  }

  void cut(bool to_target, const std::string& how) {
    const Status status = to_target ? network_->cut(kSourceHost, kTargetHost, how)
                                    : network_->cut(kTargetHost, kSourceHost, how);
    ASSERT_TRUE(status.ok()) << status.to_string();
  }
  uint64_t count(const std::string& state) const { return target_->status().blocks.at(state); }
  bool all_free(const Agent& agent) const {
    return wait_until([&] { return agent.status().blocks.at("free") == agent.status().total; });
  }
  /// Begin a transfer by layer, half of which is handed over when the target has reserved.
  Transfer begin(std::chrono::milliseconds deadline) {
    const auto tokens = make_tokens(kLargePromptTokens, 1);
    blocks_ = filled_blocks(*source_, tokens);
    auto begun =
        source_->transfer_with_insert("target", {content_, tokens}, blocks_,
                                      {.mode = TransferMode::kByLayer, .deadline = deadline});
    EXPECT_TRUE(begun.ok()) << begun.status().to_string();
    EXPECT_TRUE(begun->send_layers(0, 8).ok());
    EXPECT_TRUE(wait_until([this] { return count("reserved") == 48; }));
    return *begun;
  }
  void hand_over_the_rest(Transfer& transfer) {
    ASSERT_TRUE(transfer.send_layers(8, 8).ok());
    ASSERT_TRUE(transfer.commit().ok());
  }
  Status send(TokenId first) {
    const auto tokens = make_tokens(kLargePromptTokens, first);
    const auto blocks = filled_blocks(*source_, tokens);
    auto sent = source_->transfer_with_insert("target", {content_, tokens}, blocks);
    const Status ended = sent.ok() ? sent->wait() : sent.status();
    EXPECT_TRUE(source_->unpin(blocks).ok());
    return ended;
  }
  /// Send until the peers have each other again; gives how that ended.
  Status send_until_connected(TokenId first) {
    Status sent;
    wait_until([&] {
      sent = send(first);
      return sent.code() != StatusCode::kUnavailable;
    });
    return sent;
  }
  void expect_arrival(TokenId first) {
    const auto arrival = target_->receive(30s);
    ASSERT_TRUE(arrival.ok()) << arrival.status().to_string();
    EXPECT_EQ(arrival->tokens, make_tokens(kLargePromptTokens, first));
    EXPECT_TRUE(hold(*target_, arrival->blocks, arrival->tokens));
    EXPECT_TRUE(target_->unpin(arrival->blocks).ok());
  }

  const Content content_ = *make_content(large_spec());
  std::unique_ptr<NetworkNamespace> network_;
  std::unique_ptr<Agent> source_;
  std::unique_ptr<Agent> target_;
  std::vector<BlockAddress> blocks_;
};

class CutDirectionTest : public CutNetworkTest,
                         public ::testing::WithParamInterface<std::tuple<bool, std::string>> {};

TEST_P(CutDirectionTest, the_call_ends_everything_comes_back_and_the_next_one_arrives) {
  start(2000ms, 1000ms);
  Transfer transfer = begin(10min);
  cut(std::get<0>(GetParam()), std::get<1>(GetParam()));
  Status handed_over = transfer.send_layers(8, 8);
  if (handed_over.ok()) handed_over = transfer.commit();
  EXPECT_TRUE(handed_over.ok() || handed_over.code() == StatusCode::kUnavailable);  // it has ended
  EXPECT_EQ(transfer.wait().code(), StatusCode::kUnavailable) << transfer.wait().to_string();
  EXPECT_TRUE(source_->unpin(blocks_).ok());
  EXPECT_TRUE(all_free(*source_));
  EXPECT_TRUE(all_free(*target_));
  EXPECT_EQ(target_->match({content_, make_tokens(kLargePromptTokens, 1)}).tokens, 0u);
  EXPECT_FALSE(target_->receive(0ms).ok());

  ASSERT_TRUE(network_->heal().ok());
  const Status sent = send_until_connected(7);
  EXPECT_TRUE(sent.ok()) << sent.to_string();
  expect_arrival(7);
}

INSTANTIATE_TEST_SUITE_P(Of, CutDirectionTest,
                         ::testing::Combine(::testing::Bool(), ::testing::Values("drop", "reset")),
                         [](const auto& info) {
                           return (std::get<0>(info.param) ? "to_target_" : "to_source_") +
                                  std::get<1>(info.param);
                         });

TEST_F(CutNetworkTest, what_is_on_its_way_when_the_network_heals_lands_nowhere) {
  start(60s, 2000ms);
  Transfer transfer = begin(500ms);
  cut(true, "drop");
  hand_over_the_rest(transfer);
  EXPECT_EQ(transfer.wait().code(), StatusCode::kDeadlineExceeded) << transfer.wait().to_string();
  EXPECT_TRUE(source_->unpin(blocks_).ok());
  ASSERT_TRUE(wait_until([this] { return count("quarantined") > 0; }));
  EXPECT_EQ(target_->status().quarantine, (std::map<std::string, uint64_t>{{"source", 48}}));
  ASSERT_TRUE(all_free(*target_)) << "by the fence";

  const auto others = *target_->alloc(64);
  for (const BlockAddress& block : others) fill(*target_, block, 251);
  ASSERT_TRUE(network_->heal().ok());
  const Status refused = send_until_connected(7);
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted) << refused.to_string();
  for (const BlockAddress& block : others) EXPECT_TRUE(holds(*target_, block, 251));
  ASSERT_TRUE(target_->free(others).ok());
  EXPECT_TRUE(send(7).ok());
  expect_arrival(7);
}

}  // namespace
}  // namespace mempool
