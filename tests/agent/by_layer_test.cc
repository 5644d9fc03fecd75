// SPDX-License-Identifier: Apache-2.0
// Owns the checks of transfers whose KV is still being made: by layer, and behind a fence.
#include <gtest/gtest.h>

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
using testing::holds;
using testing::kv_byte;
using testing::make_tokens;
using testing::small_options;
using testing::small_spec;
using testing::start_agent;
using testing::wait_until;

class ByLayerTest : public ::testing::TestWithParam<std::string> {
 protected:
  ByLayerTest() {
    source_ = start_agent(small_options("prefill", GetParam()));
    AgentOptions target = small_options("decode", GetParam());
    target.placement.form = BlockForm::kAggregated;
    target_ = start_agent(target);
    source_->add_peer("decode", target_->status().listen);
    content_ = *make_content(small_spec());
    blocks_ = *source_->alloc(tokens_.size() / small_spec().tokens_per_block);
  }
  ~ByLayerTest() override {
    EXPECT_TRUE(source_->status().audit.ok());
    EXPECT_TRUE(target_->status().audit.ok());
  }

  /// What prefill does in one layer's time.
  void make_layer(uint32_t layer) {
    for (size_t i = 0; i < blocks_.size(); ++i) {
      const TokenId token = tokens_[i * small_spec().tokens_per_block];
      for (uint32_t part = 0; part < 2; ++part) {
        const auto piece = *source_->piece(blocks_[i], layer, part);
        for (size_t at = 0; at < piece.size(); ++at) piece[at] = kv_byte(token, layer, part, at);
      }
    }
  }
  Transfer begin(TransferOptions options = {.mode = TransferMode::kByLayer}) {
    auto transfer = source_->transfer_with_insert("decode", {content_, tokens_}, blocks_, options);
    EXPECT_TRUE(transfer.ok()) << transfer.status().to_string();
    return *transfer;
  }
  void expect_arrived() {
    const auto arrival = target_->receive(5s);
    ASSERT_TRUE(arrival.ok()) << arrival.status().to_string();
    for (size_t i = 0; i < arrival->blocks.size(); ++i) {
      EXPECT_TRUE(holds(*target_, arrival->blocks[i], tokens_[i * small_spec().tokens_per_block]));
    }
    EXPECT_TRUE(target_->unpin(arrival->blocks).ok());
  }
  /// The target's blocks come back once it has heard of the end.
  void expect_nothing_left() {
    EXPECT_TRUE(wait_until(
        [this] { return target_->status().blocks.at("free") == target_->status().total; }));
    EXPECT_EQ(target_->match({content_, tokens_}).tokens, 0u);
  }

  const std::vector<TokenId> tokens_ = make_tokens(20);
  std::unique_ptr<Agent> source_;
  std::unique_ptr<Agent> target_;
  Content content_;
  std::vector<BlockAddress> blocks_;
};

TEST_P(ByLayerTest, layers_go_as_they_are_made) {
  Transfer transfer = begin();
  for (uint32_t layer = 0; layer < small_spec().layers; ++layer) {
    make_layer(layer);
    ASSERT_TRUE(transfer.send_layers(layer, 1).ok());
  }
  ASSERT_TRUE(transfer.commit().ok());
  const Status sent = transfer.wait();
  ASSERT_TRUE(sent.ok()) << sent.to_string();
  EXPECT_EQ(transfer.report().bytes, blocks_.size() * source_->layout().block_bytes);
  expect_arrived();
}

TEST_P(ByLayerTest, layers_may_come_in_any_order_and_before_there_is_a_session) {
  make_layer(2);
  Transfer transfer = begin();
  ASSERT_TRUE(transfer.send_layers(2, 1).ok());
  make_layer(0);
  make_layer(1);
  ASSERT_TRUE(transfer.send_layers(0, 2).ok());
  ASSERT_TRUE(transfer.commit().ok());
  ASSERT_TRUE(transfer.wait().ok());
  expect_arrived();
}

TEST_P(ByLayerTest, nothing_is_published_before_the_commit) {
  Transfer transfer = begin();
  for (uint32_t layer = 0; layer < small_spec().layers; ++layer) make_layer(layer);
  ASSERT_TRUE(transfer.send_layers(0, 3).ok());
  ASSERT_TRUE(wait_until([this] { return target_->status().blocks.at("reserved") > 0; }));
  EXPECT_EQ(target_->match({content_, tokens_}).tokens, 0u);
  EXPECT_FALSE(transfer.done());
  ASSERT_TRUE(transfer.commit().ok());
  ASSERT_TRUE(transfer.wait().ok());
  EXPECT_EQ(target_->match({content_, tokens_}).tokens, tokens_.size());
}

TEST_P(ByLayerTest, every_layer_is_handed_over_once_before_the_commit) {
  for (uint32_t layer = 0; layer < small_spec().layers; ++layer) make_layer(layer);
  Transfer transfer = begin();
  EXPECT_EQ(transfer.send_layers(2, 2).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(transfer.send_layers(0, 0).code(), StatusCode::kInvalidArgument);
  ASSERT_TRUE(transfer.send_layers(0, 2).ok());
  EXPECT_EQ(transfer.send_layers(1, 2).code(), StatusCode::kInvalidArgument);
  const Status early = transfer.commit();
  EXPECT_EQ(early.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(early.to_string().find("layer 2 "), std::string::npos) << early.to_string();
  ASSERT_TRUE(transfer.send_layers(2, 1).ok());  // a refused call has no effect
  ASSERT_TRUE(transfer.commit().ok());
  EXPECT_EQ(transfer.commit().code(), StatusCode::kInvalidArgument);
  ASSERT_TRUE(transfer.wait().ok());
  expect_arrived();
}

TEST_P(ByLayerTest, a_transfer_by_request_takes_no_layers) {
  const auto blocks = filled_blocks(*source_, tokens_);
  auto transfer = source_->transfer_with_insert("decode", {content_, tokens_}, blocks);
  ASSERT_TRUE(transfer.ok());
  EXPECT_EQ(transfer->send_layers(0, 1).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(transfer->commit().code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(transfer->wait().ok());
}

TEST_P(ByLayerTest, a_cancel_between_two_layers_gives_everything_back) {
  Transfer transfer = begin();
  ASSERT_TRUE(wait_until([this] { return target_->status().blocks.at("reserved") > 0; }));
  make_layer(0);
  ASSERT_TRUE(transfer.send_layers(0, 1).ok());
  transfer.cancel();
  EXPECT_EQ(transfer.wait().code(), StatusCode::kCancelled);
  EXPECT_EQ(transfer.send_layers(1, 1).code(), StatusCode::kUnavailable);
  EXPECT_EQ(transfer.commit().code(), StatusCode::kUnavailable);
  EXPECT_TRUE(source_->free(blocks_).ok());
  expect_nothing_left();
}

TEST_P(ByLayerTest, a_prefill_that_never_commits_ends_at_the_deadline) {
  Transfer transfer = begin({.mode = TransferMode::kByLayer, .deadline = 50ms});
  make_layer(0);
  ASSERT_TRUE(transfer.send_layers(0, 1).ok());
  EXPECT_EQ(transfer.wait().code(), StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(source_->free(blocks_).ok());
  expect_nothing_left();
}

TEST_P(ByLayerTest, what_the_target_has_moves_no_byte) {
  for (uint32_t layer = 0; layer < small_spec().layers; ++layer) make_layer(layer);
  const auto first = source_->transfer_with_insert("decode", {content_, tokens_}, blocks_);
  ASSERT_TRUE(first->wait().ok());
  expect_arrived();
  Transfer again = begin();
  ASSERT_TRUE(again.send_layers(0, 3).ok());
  ASSERT_TRUE(again.commit().ok());
  ASSERT_TRUE(again.wait().ok());
  EXPECT_EQ(again.report().bytes, 0u);
  expect_arrived();
}

TEST_P(ByLayerTest, layers_wait_for_their_fences_and_the_commit_for_the_last) {
  Transfer transfer = begin();
  std::vector<Fence> fences;
  for (uint32_t layer = 0; layer < small_spec().layers; ++layer) {
    fences.push_back(Fence::pending());
    ASSERT_TRUE(transfer.send_layers(layer, 1, fences.back()).ok());
  }
  ASSERT_TRUE(transfer.commit().ok());
  std::thread engine([&] {
    for (uint32_t layer : {1u, 0u, 2u}) {
      make_layer(layer);
      fences[layer].signal();
    }
  });
  const Status sent = transfer.wait();
  engine.join();
  ASSERT_TRUE(sent.ok()) << sent.to_string();
  expect_arrived();
}

TEST_P(ByLayerTest, a_request_waits_until_its_blocks_are_ready) {
  const Fence ready = Fence::pending();
  Transfer transfer = begin({.ready = ready});
  ASSERT_TRUE(wait_until([this] { return target_->status().blocks.at("reserved") > 0; }));
  for (uint32_t layer = 0; layer < small_spec().layers; ++layer) make_layer(layer);
  EXPECT_FALSE(transfer.done());
  ready.signal();
  const Status sent = transfer.wait();
  ASSERT_TRUE(sent.ok()) << sent.to_string();
  expect_arrived();
}

TEST_P(ByLayerTest, a_fence_may_be_reached_after_the_agent_has_gone) {
  const Fence ready = Fence::pending();
  Transfer transfer = begin({.ready = ready});
  source_.reset();
  EXPECT_EQ(transfer.wait().code(), StatusCode::kCancelled);
  ready.signal();
  transfer.cancel();
  EXPECT_EQ(transfer.done(), true);
  source_ = start_agent(small_options("prefill", GetParam()));
}

TEST_P(ByLayerTest, a_block_that_was_set_aside_meanwhile_is_not_sealed_anew) {
  for (uint32_t layer = 0; layer < small_spec().layers; ++layer) make_layer(layer);
  ASSERT_TRUE(source_->insert({content_, tokens_}, blocks_).ok());
  Transfer transfer = begin();
  ASSERT_TRUE(transfer.send_layers(0, 3).ok());
  (*source_->piece(blocks_[1], 0, 1))[3] ^= std::byte{4};
  std::vector<std::byte> out(source_->layout().block_bytes);
  ASSERT_EQ(source_->read(blocks_[1], out).code(), StatusCode::kCorruption);
  ASSERT_TRUE(transfer.commit().ok());
  EXPECT_EQ(transfer.wait().code(), StatusCode::kCorruption);
  EXPECT_EQ(target_->match({content_, tokens_}).tokens, 0u);
}

TEST_P(ByLayerTest, a_block_erased_meanwhile_keeps_its_sum) {
  for (uint32_t layer = 0; layer < small_spec().layers; ++layer) make_layer(layer);
  ASSERT_TRUE(source_->insert({content_, tokens_}, blocks_).ok());
  Transfer transfer = begin();
  source_->erase({content_, std::span(tokens_).first(small_spec().tokens_per_block)});
  (*source_->piece(blocks_[1], 0, 1))[3] ^= std::byte{4};
  ASSERT_TRUE(transfer.send_layers(0, 3).ok());
  ASSERT_TRUE(transfer.commit().ok());
  EXPECT_EQ(transfer.wait().code(), StatusCode::kCorruption);
}

TEST_P(ByLayerTest, sums_travel_with_the_commit) {
  Transfer transfer = begin();
  for (uint32_t layer = 0; layer < small_spec().layers; ++layer) make_layer(layer);
  ASSERT_TRUE(transfer.send_layers(0, 3).ok());
  ASSERT_TRUE(transfer.commit().ok());
  ASSERT_TRUE(transfer.wait().ok());
  const BlockAddress block = transfer.report().serving[1];
  std::vector<std::byte> out(target_->layout().block_bytes);
  EXPECT_TRUE(target_->read(block, out).ok());
  (*target_->piece(block, 1, 1))[0] ^= std::byte{1};
  EXPECT_EQ(target_->read(block, out).code(), StatusCode::kCorruption);
}

INSTANTIATE_TEST_SUITE_P(Over, ByLayerTest, ::testing::Values("local", "shm", "tcp"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace mempool
