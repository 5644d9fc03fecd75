// SPDX-License-Identifier: Apache-2.0
// Owns what the tests of dying peers share: an agent here, which survives, and one in a process.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "mempool/agent.h"
#include "tests/agent/agent_pair.h"
#include "tests/deaths/large_kv.h"
#include "tests/deaths/told_process.h"

namespace mempool::testing {

inline constexpr uint64_t kLargePoolBlocks = 64;
inline constexpr uint64_t kLargePromptBlocks = 48;

/// told_agent as the process "child". Thread: confined.
class ToldChild : public ToldProcess {
 public:
  explicit ToldChild(const std::string& transport, const std::string& listen = "127.0.0.1:0")
      : ToldProcess({MEMPOOL_TOLD_AGENT, "child", transport, listen}), address_(answer()) {}
  const std::string& address() const { return address_; }

 private:
  std::string address_;
};

/// Both ends use the transport that is the parameter. Thread: confined.
class PeerDeathTest : public ::testing::TestWithParam<std::string> {
 protected:
  virtual AgentOptions survivor_options() const { return large_options("survivor", GetParam()); }
  void SetUp() override {
    survivor_ = start_agent(survivor_options());
    ASSERT_NE(survivor_, nullptr);
  }
  void TearDown() override { EXPECT_TRUE(survivor_->status().audit.ok()); }

  /// Tell both of the other's address.
  void introduce(ToldChild& child) {
    survivor_->add_peer("child", child.address());
    EXPECT_EQ(child.ask("peer survivor " + survivor_->status().listen), "OK");
  }

  uint64_t count(const std::string& state) const { return survivor_->status().blocks.at(state); }
  bool all_free() const {
    return wait_until([this] { return count("free") == kLargePoolBlocks; });
  }
  size_t matched(TokenId first) {
    const auto tokens = make_tokens(kLargePromptTokens, first);
    const MatchResult found = survivor_->match({content_, tokens});
    EXPECT_TRUE(hold(*survivor_, found.blocks, tokens));
    EXPECT_TRUE(survivor_->unpin(found.blocks).ok());
    return found.tokens;
  }
  /// Wait until all blocks are back, and see that nobody was given anything of the prompt.
  void expect_nothing_of(TokenId first) {
    EXPECT_TRUE(all_free());
    EXPECT_EQ(matched(first), 0u);
    EXPECT_EQ(survivor_->receive(std::chrono::milliseconds(0)).status().code(),
              StatusCode::kDeadlineExceeded);
  }
  /// Take the next arrival, check its bytes, and empty the pool.
  void take_arrival(TokenId first) {
    const auto arrival = survivor_->receive(std::chrono::seconds(30));
    ASSERT_TRUE(arrival.ok()) << arrival.status().to_string();
    EXPECT_EQ(arrival->source, "child");
    EXPECT_EQ(arrival->tokens, make_tokens(kLargePromptTokens, first));
    EXPECT_TRUE(hold(*survivor_, arrival->blocks, arrival->tokens));
    EXPECT_TRUE(survivor_->unpin(arrival->blocks).ok());
    survivor_->erase({content_, std::span(arrival->tokens).first(4)});
    EXPECT_TRUE(all_free());
  }

  /// Begin to send a prompt to the child by layer, and hand over the first layers.
  Transfer begin(TokenId first, uint32_t layers, std::chrono::milliseconds deadline) {
    const auto tokens = make_tokens(kLargePromptTokens, first);
    blocks_ = filled_blocks(*survivor_, tokens);
    auto begun =
        survivor_->transfer_with_insert("child", {content_, tokens}, blocks_,
                                        {.mode = TransferMode::kByLayer, .deadline = deadline});
    EXPECT_TRUE(begun.ok()) << begun.status().to_string();
    if (layers > 0) {
      EXPECT_TRUE(begun->send_layers(0, layers).ok());
    }
    return *begun;
  }
  /// Send a prompt to the child, and give its transfer when it has ended.
  Transfer send(TokenId first) {
    const auto tokens = make_tokens(kLargePromptTokens, first);
    blocks_ = filled_blocks(*survivor_, tokens);
    auto sent = survivor_->transfer_with_insert("child", {content_, tokens}, blocks_);
    EXPECT_TRUE(sent.ok()) << sent.status().to_string();
    EXPECT_TRUE(sent->wait().ok()) << sent->wait().to_string();
    EXPECT_TRUE(survivor_->unpin(blocks_).ok());
    return *sent;
  }

  const Content content_ = *make_content(large_spec());
  std::unique_ptr<Agent> survivor_;
  std::vector<BlockAddress> blocks_;  // of the last begin() or send()
};

inline std::string transport_of(const ::testing::TestParamInfo<std::string>& info) {
  return info.param;
}

}  // namespace mempool::testing
