// SPDX-License-Identifier: Apache-2.0
// Owns the checks of pools that grow and shrink while they are in use.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

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
using testing::wait_until;

constexpr uint32_t kFirst = 16;  // blocks that a pool starts with

class GrowTest : public ::testing::TestWithParam<std::string> {
 protected:
  GrowTest() {
    AgentOptions options = small_options("target", GetParam());
    options.segment_blocks = {kFirst};
    target_ = start_agent(options);
    options = small_options("source", GetParam());
    options.segment_blocks = {kFirst};
    options.peers["target"] = target_->status().listen;
    source_ = start_agent(options);
  }
  ~GrowTest() override {
    for (const Agent* agent : {source_.get(), target_.get()}) {
      EXPECT_EQ(agent->status().audit.to_string(), "OK");
    }
  }

  /// Send `count` whole blocks that begin with `first`, and give the target's, pinned.
  Result<Arrival> send(size_t count, TokenId first) {
    const std::vector<TokenId> tokens = make_tokens(count * small_spec().tokens_per_block, first);
    const auto blocks = filled_blocks(*source_, tokens);
    auto transfer = source_->transfer_with_insert("target", {content_, tokens}, blocks);
    const Status ended = transfer.ok() ? transfer->wait() : transfer.status();
    EXPECT_TRUE(source_->free(blocks).ok());
    if (!ended.ok()) return ended;
    auto arrival = target_->receive(10s);
    if (arrival.ok()) {
      EXPECT_TRUE(hold(*target_, arrival->blocks, arrival->tokens));
    }
    return arrival;
  }

  const Content content_ = *make_content(small_spec());
  std::unique_ptr<Agent> target_;
  std::unique_ptr<Agent> source_;
};

TEST_P(GrowTest, peers_that_are_connected_write_into_what_has_grown) {
  const auto before = send(10, 0);
  ASSERT_TRUE(before.ok()) << before.status().to_string();
  EXPECT_EQ(send(10, 1000).status().code(), StatusCode::kResourceExhausted);
  ASSERT_TRUE(target_->grow(8).ok());
  EXPECT_EQ(target_->status().total, kFirst + 8);
  const auto arrival = send(10, 2000);
  ASSERT_TRUE(arrival.ok()) << arrival.status().to_string();
  EXPECT_GE(arrival->blocks.back().index(), kFirst) << "some lie in the new segment";
}

TEST_P(GrowTest, blocks_that_have_grown_at_the_source_are_sent) {
  ASSERT_TRUE(send(2, 0).ok()) << "connected before";
  ASSERT_TRUE(source_->grow(8).ok());
  const auto held = source_->alloc(kFirst);
  ASSERT_TRUE(held.ok());
  const auto arrival = send(8, 1000);
  ASSERT_TRUE(arrival.ok()) << arrival.status().to_string();
}

TEST_P(GrowTest, what_has_grown_is_fetched) {
  ASSERT_TRUE(send(2, 0).ok());
  ASSERT_TRUE(target_->grow(16).ok());
  const std::vector<TokenId> tokens = make_tokens(14 * small_spec().tokens_per_block, 5000);
  const auto filler = target_->alloc(14);
  ASSERT_TRUE(filler.ok());
  const auto blocks = filled_blocks(*target_, tokens);
  EXPECT_GE(blocks.back().index(), kFirst);
  ASSERT_TRUE(target_->insert({content_, tokens}, blocks).ok());
  auto fetched = source_->fetch("target", {content_, tokens});
  ASSERT_TRUE(fetched.ok());
  ASSERT_TRUE(fetched->wait().ok()) << fetched->wait().to_string();
  EXPECT_TRUE(hold(*source_, fetched->report().serving, tokens));
}

TEST_P(GrowTest, shrinking_takes_published_blocks_and_waits_for_those_in_use) {
  ASSERT_TRUE(target_->grow(8).ok());
  ASSERT_TRUE(send(10, 0).ok());
  const auto arrival = send(10, 1000);
  ASSERT_TRUE(arrival.ok()) << arrival.status().to_string();
  const Status kept = target_->shrink(20ms);
  EXPECT_EQ(kept.code(), StatusCode::kDeadlineExceeded);
  EXPECT_NE(kept.message().find("private"), std::string::npos) << kept.message();
  EXPECT_EQ(target_->status().total, kFirst + 8) << "the segment is kept";
  EXPECT_EQ(target_->status().blocks.at("free"), 4u);
  ASSERT_TRUE(target_->unpin(arrival->blocks).ok());
  const Status shrunk = target_->shrink(10s);
  ASSERT_TRUE(shrunk.ok()) << shrunk.to_string();
  EXPECT_EQ(target_->status().total, kFirst);
  const MatchResult left = target_->match({content_, make_tokens(40, 0)});
  EXPECT_EQ(left.tokens, 40u) << "what lies in other segments is still there";
  EXPECT_EQ(target_->free({&arrival->blocks.back(), 1}).code(), StatusCode::kStale);
  ASSERT_TRUE(target_->grow(8).ok());
  const auto again = send(10, 2000);
  ASSERT_TRUE(again.ok()) << again.status().to_string();
}

TEST_P(GrowTest, the_only_segment_is_kept) {
  EXPECT_EQ(target_->shrink(1s).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(target_->grow(0).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(target_->grow(1u << 28).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(target_->status().total, kFirst);
}

TEST_P(GrowTest, a_pool_grows_and_shrinks_under_transfers_without_a_wrong_byte) {
  std::atomic<bool> over{false};
  std::atomic<uint32_t> arrived{0};
  std::thread load([&] {
    for (TokenId first = 0; !over; first += 1000) {
      const auto arrival = send(12, first);
      if (arrival.ok()) {
        ++arrived;
        EXPECT_TRUE(target_->unpin(arrival->blocks).ok());
      } else {
        EXPECT_EQ(arrival.status().code(), StatusCode::kResourceExhausted)
            << arrival.status().to_string();
      }
    }
  });
  for (int round = 0; round < 10; ++round) {
    const uint32_t before = arrived;
    EXPECT_TRUE(target_->grow(16).ok());
    EXPECT_TRUE(wait_until([&] { return arrived > before + 1; }));
    const Status shrunk = target_->shrink(10s);
    EXPECT_TRUE(shrunk.ok()) << shrunk.to_string();
  }
  over = true;
  load.join();
  EXPECT_EQ(target_->status().total, kFirst);
}

TEST_P(GrowTest, an_agent_that_ends_gives_a_shrink_up) {
  ASSERT_TRUE(target_->grow(8).ok());
  const auto held = target_->alloc(kFirst + 4);
  ASSERT_TRUE(held.ok());
  Status shrunk;
  std::thread waits([&shrunk, agent = target_.get()] { shrunk = agent->shrink(1h); });
  EXPECT_TRUE(wait_until([&] { return target_->status().blocks.at("free") == 0; }))
      << "the segment is closed";
  target_.reset();
  waits.join();
  EXPECT_EQ(shrunk.code(), StatusCode::kCancelled);
  target_ = start_agent(small_options("target", GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Transports, GrowTest, ::testing::Values("local", "tcp", "shm"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace mempool
