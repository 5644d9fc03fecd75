// SPDX-License-Identifier: Apache-2.0
// Owns the checks of fetch, the pull, between two agents.
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "mempool/agent.h"
#include "tests/agent/agent_pair.h"

namespace mempool {
namespace {

using namespace std::chrono_literals;
using testing::all_transports;
using testing::fill;
using testing::filled_blocks;
using testing::holds;
using testing::make_tokens;
using testing::small_options;
using testing::small_spec;
using testing::start_agent;
using testing::wait_until;

class FetchTest : public ::testing::TestWithParam<std::string> {
 protected:
  FetchTest() { start(small_options("holder", GetParam())); }
  ~FetchTest() override {
    EXPECT_TRUE(holder_->status().audit.ok());
    EXPECT_TRUE(here_->status().audit.ok());
  }
  void start(const AgentOptions& holder) {
    holder_ = start_agent(holder);
    here_ = start_agent(small_options("here", GetParam()));
    here_->add_peer("holder", holder_->status().listen);
  }
  void publish(Agent& agent, std::span<const TokenId> tokens) {
    const auto blocks = filled_blocks(agent, tokens);
    ASSERT_TRUE(agent.insert({content_, tokens}, blocks).ok());
    ASSERT_TRUE(agent.unpin(blocks).ok());
  }
  Status fetch(std::span<const TokenId> tokens, TransferReport* report = nullptr) {
    auto transfer = here_->fetch("holder", {content_, tokens});
    if (!transfer.ok()) return transfer.status();
    const Status status = transfer->wait();
    if (report != nullptr) *report = transfer->report();
    return status;
  }
  bool lease_is_over() {
    return wait_until([this] { return holder_->status().pins == 0; });
  }

  const Content content_ = *make_content(small_spec());
  const std::vector<TokenId> tokens_ = make_tokens(20);
  std::unique_ptr<Agent> holder_;
  std::unique_ptr<Agent> here_;
};

TEST_P(FetchTest, what_another_holds_is_brought_and_matchable_with_the_right_bytes) {
  publish(*holder_, tokens_);
  TransferReport report;
  const Status status = fetch(tokens_, &report);
  ASSERT_TRUE(status.ok()) << status.to_string();
  ASSERT_EQ(report.serving.size(), 5u);
  EXPECT_EQ(report.bytes, 5 * here_->layout().block_bytes);
  EXPECT_EQ(report.transport, GetParam());
  for (size_t i = 0; i < 5; ++i) EXPECT_TRUE(holds(*here_, report.serving[i], tokens_[4 * i]));
  const MatchResult match = here_->match({content_, tokens_});
  EXPECT_EQ(match.blocks, report.serving);
  EXPECT_TRUE(here_->unpin(match.blocks).ok());
  EXPECT_TRUE(here_->unpin(report.serving).ok());
  EXPECT_EQ(here_->status().pins, 0u);
  EXPECT_TRUE(lease_is_over());
}

TEST_P(FetchTest, only_what_is_missing_here_moves) {
  publish(*holder_, tokens_);
  publish(*here_, std::span(tokens_).first(8));
  TransferReport report;
  ASSERT_TRUE(fetch(make_tokens(19), &report).ok());  // the tail of three tokens is no whole block
  EXPECT_EQ(report.bytes, 2 * here_->layout().block_bytes);
  EXPECT_EQ(report.tokens_matched, 8u);
  EXPECT_EQ(report.serving.size(), 4u);
  EXPECT_EQ(here_->match({content_, tokens_}).tokens, 16u);
}

TEST_P(FetchTest, a_holder_of_less_brings_less_and_one_of_nothing_nothing) {
  TransferReport report;
  ASSERT_TRUE(fetch(tokens_, &report).ok());
  EXPECT_TRUE(report.serving.empty());
  publish(*holder_, std::span(tokens_).first(12));
  ASSERT_TRUE(fetch(tokens_, &report).ok());
  EXPECT_EQ(report.serving.size(), 3u);
  EXPECT_TRUE(here_->unpin(report.serving).ok());
  EXPECT_EQ(here_->status().blocks.at("free"), here_->status().total - 3);
  EXPECT_TRUE(lease_is_over());
}

TEST_P(FetchTest, what_is_all_here_asks_nobody) {
  publish(*here_, tokens_);
  here_->add_peer("nobody", "127.0.0.1:1");
  const auto transfer = here_->fetch("nobody", {content_, tokens_});
  ASSERT_TRUE(transfer.ok());
  EXPECT_TRUE(transfer->wait().ok());
  EXPECT_EQ(transfer->report().serving.size(), 5u);
}

TEST_P(FetchTest, layouts_of_either_kind_and_order_map) {
  AgentOptions holder = small_options("holder", GetParam());
  holder.placement.form = BlockForm::kAggregated;
  holder.placement.order = TokenOrder::kHeadToken;
  start(holder);
  const auto blocks = filled_blocks(*holder_, tokens_);
  ASSERT_TRUE(holder_->insert({content_, tokens_}, blocks).ok());
  TransferReport report;
  const Status status = fetch(tokens_, &report);  // the holder's sums are checked in its order
  ASSERT_TRUE(status.ok()) << status.to_string();
  const BlockLayout there = holder_->layout();
  const BlockLayout here = here_->layout();
  for (uint32_t token = 0; token < here.tokens; ++token) {
    for (uint32_t head = 0; head < here.heads; ++head) {
      const auto from = holder_->piece(blocks[2], 1, 1)->subspan(there.vector_offset(token, head));
      const auto to =
          here_->piece(report.serving[2], 1, 1)->subspan(here.vector_offset(token, head));
      EXPECT_TRUE(std::equal(from.begin(), from.begin() + here.vector_bytes, to.begin()));
    }
  }
}

TEST_P(FetchTest, bytes_that_are_not_those_sealed_are_refused) {
  const auto blocks = filled_blocks(*holder_, tokens_);
  ASSERT_TRUE(holder_->insert({content_, tokens_}, blocks).ok());
  (*holder_->piece(blocks[3], 2, 0))[5] ^= std::byte{1};
  EXPECT_EQ(fetch(tokens_).code(), StatusCode::kCorruption);
  EXPECT_EQ(here_->match({content_, tokens_}).tokens, 0u);
  EXPECT_EQ(here_->status().blocks.at("free"), here_->status().total);
}

TEST_P(FetchTest, no_room_here_is_said_at_once) {
  publish(*holder_, tokens_);
  const auto held = here_->alloc(here_->status().total - 4);
  ASSERT_TRUE(held.ok());
  EXPECT_EQ(fetch(tokens_).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(here_->status().blocks.at("free"), 4u);
}

TEST_P(FetchTest, what_makes_no_fetch_is_refused_at_once) {
  EXPECT_EQ(fetch(make_tokens(3)).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(here_->fetch("stranger", {content_, tokens_}).status().code(), StatusCode::kNotFound);
  const TransferOptions by_layer{.mode = TransferMode::kByLayer};
  EXPECT_EQ(here_->fetch("holder", {content_, tokens_}, by_layer).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(here_->status().pins, 0u);
}

TEST_P(FetchTest, a_holder_that_is_gone_gives_the_places_back) {
  publish(*holder_, tokens_);
  ASSERT_TRUE(fetch(std::span(tokens_).first(4)).ok());
  holder_.reset();
  EXPECT_EQ(fetch(tokens_).code(), StatusCode::kUnavailable);
  EXPECT_TRUE(wait_until([this] {
    return here_->status().blocks.at("free") == here_->status().total - 1;  // the one it has
  }));
  holder_ = start_agent(small_options("holder", GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Over, FetchTest, ::testing::ValuesIn(testing::all_transports()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace mempool
