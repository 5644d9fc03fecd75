// SPDX-License-Identifier: Apache-2.0
// Owns the checks of an engine's own memory as source, target and cache, between two agents.
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "mempool/agent.h"
#include "tests/agent/agent_pair.h"
#include "tests/agent/engine_memory.h"

namespace mempool {
namespace {

using namespace std::chrono_literals;
using testing::EngineMemory;
using testing::fill;
using testing::filled_blocks;
using testing::hold;
using testing::holds;
using testing::make_tokens;
using testing::small_options;
using testing::small_spec;
using testing::start_agent;
using testing::TensorForm;
using testing::TensorMemory;
using testing::wait_until;

constexpr uint32_t kTensorBlocks = 8;
constexpr TokenId kBlockTokens = 4;

class AdoptTest : public ::testing::TestWithParam<std::string> {
 protected:
  AdoptTest() {
    target_ = start_agent(small_options("target", GetParam()));
    source_ = start_agent(small_options("source", GetParam()));
    source_->add_peer("target", target_->status().listen);
    target_->add_peer("source", source_->status().listen);
  }
  ~AdoptTest() override {
    for (const Agent* agent : {source_.get(), target_.get()}) {
      EXPECT_EQ(agent->status().audit.to_string(), "OK");
    }
  }

  /// Claim blocks of "kv" at the source, and fill them as the engine does, by its own addresses.
  std::vector<BlockAddress> claim_filled(const EngineMemory& tensors, std::vector<uint32_t> numbers,
                                         std::span<const TokenId> tokens) {
    const auto blocks = source_->claim("kv", numbers);
    EXPECT_TRUE(blocks.ok()) << blocks.status().to_string();
    if (!blocks.ok()) return {};
    const BlockLayout& layout = source_->layout();
    for (size_t i = 0; i < numbers.size(); ++i) {
      for (uint32_t layer = 0; layer < layout.layers; ++layer) {
        for (uint32_t part = 0; part < layout.parts; ++part) {
          for (size_t at = 0; at < layout.piece_bytes; ++at) {
            tensors.piece(numbers[i], layer, part)[at] =
                testing::kv_byte(tokens[i * kBlockTokens], layer, part, at);
          }
        }
      }
    }
    return *blocks;
  }
  Status send(std::span<const TokenId> tokens, std::span<const BlockAddress> blocks) {
    auto transfer = source_->transfer_with_insert("target", {content_, tokens}, blocks);
    return transfer.ok() ? transfer->wait() : transfer.status();
  }
  uint64_t count(const std::string& state) { return source_->status().blocks.at(state); }

  const Content content_ = *make_content(small_spec());
  const std::vector<TokenId> tokens_ = make_tokens(12);
  std::unique_ptr<Agent> target_;
  std::unique_ptr<Agent> source_;
};

TEST_P(AdoptTest, tensors_in_every_form_are_sent_from_where_they_lie) {
  for (const TensorForm form :
       {TensorForm::kLayers, TensorForm::kPartsInBlock, TensorForm::kBlocks}) {
    const EngineMemory tensors(source_->layout(), kTensorBlocks, form);
    ASSERT_TRUE(source_->adopt("kv", tensors.options()).ok());
    EXPECT_EQ(count("unclaimed"), kTensorBlocks);
    const auto tokens = make_tokens(12, static_cast<TokenId>(form) * 1000);
    const auto blocks = claim_filled(tensors, {5, 1, 2}, tokens);
    for (size_t i = 0; i < blocks.size(); ++i) {
      EXPECT_TRUE(holds(*source_, blocks[i], tokens[i * kBlockTokens])) << "piece() agrees";
    }
    const Status sent = send(tokens, blocks);
    ASSERT_TRUE(sent.ok()) << sent.to_string();
    const auto arrival = target_->receive(10s);
    ASSERT_TRUE(arrival.ok());
    EXPECT_TRUE(hold(*target_, arrival->blocks, tokens));
    ASSERT_TRUE(source_->free(blocks).ok());
    EXPECT_EQ(send(tokens, blocks).code(), StatusCode::kStale);
    const Status withdrawn = source_->withdraw("kv", 10s);
    ASSERT_TRUE(withdrawn.ok()) << withdrawn.to_string();
    EXPECT_EQ(source_->status().blocks.at("unclaimed"), 0u);
  }
}

TEST_P(AdoptTest, anonymous_memory_is_sent_but_over_shm_whose_peers_cannot_map_it) {
  const EngineMemory tensors(source_->layout(), kTensorBlocks, TensorForm::kLayers,
                             TensorMemory::kAnonymous);
  ASSERT_TRUE(source_->adopt("kv", tensors.options()).ok());
  const auto blocks = claim_filled(tensors, {0, 1, 2}, tokens_);
  const Status sent = send(tokens_, blocks);
  if (GetParam() == "shm") {
    EXPECT_EQ(sent.code(), StatusCode::kUnsupported);
    EXPECT_NE(sent.message().find("descriptor"), std::string::npos) << sent.message();
  } else {
    ASSERT_TRUE(sent.ok()) << sent.to_string();
    const auto arrival = target_->receive(10s);
    ASSERT_TRUE(arrival.ok());
    EXPECT_TRUE(hold(*target_, arrival->blocks, tokens_));
  }
}

TEST_P(AdoptTest, inserting_copies_into_the_pool_and_leaves_the_tensors_to_their_engine) {
  const EngineMemory tensors(source_->layout(), kTensorBlocks);
  ASSERT_TRUE(source_->adopt("kv", tensors.options()).ok());
  const auto blocks = claim_filled(tensors, {3, 4, 6}, tokens_);
  const auto inserted = source_->insert({content_, tokens_}, blocks);
  ASSERT_TRUE(inserted.ok()) << inserted.status().to_string();
  EXPECT_EQ(inserted->admitted, 3u);
  EXPECT_EQ(inserted->duplicates, blocks) << "they stay the engine's";
  EXPECT_EQ(count("published"), 3u);
  EXPECT_EQ(count("writing"), 3u);
  EXPECT_EQ(source_->status().pins, 3u) << "nobody pins the copies";
  for (uint32_t number : {3u, 4u, 6u}) *tensors.piece(number, 1, 1) ^= std::byte{0xff};
  const MatchResult match = source_->match({content_, tokens_});
  EXPECT_EQ(match.blocks, inserted->serving);
  EXPECT_TRUE(hold(*source_, match.blocks, tokens_));
  EXPECT_TRUE(source_->unpin(match.blocks).ok());

  // A longer list copies what is new only, and what the engine has from the cache is as it was.
  const auto longer = make_tokens(20);
  auto list = match.blocks;
  const auto more = claim_filled(tensors, {0, 1}, std::span(longer).subspan(12));
  list.insert(list.end(), more.begin(), more.end());
  const auto again = source_->insert({content_, longer}, list);
  ASSERT_TRUE(again.ok()) << again.status().to_string();
  EXPECT_EQ(again->duplicates, more);
  EXPECT_EQ(count("published"), 5u);
  const auto fetched = target_->fetch("source", {content_, longer});
  ASSERT_TRUE(fetched.ok());
  ASSERT_TRUE(fetched->wait().ok());
  EXPECT_TRUE(hold(*target_, fetched->report().serving, longer));
}

TEST_P(AdoptTest, what_is_not_the_engines_to_insert_is_not_copied_either) {
  const EngineMemory tensors(source_->layout(), kTensorBlocks);
  ASSERT_TRUE(source_->adopt("kv", tensors.options()).ok());
  const auto blocks = claim_filled(tensors, {0, 1, 2}, tokens_);
  const auto from = filled_blocks(*target_, tokens_);
  TransferOptions by_layer;
  by_layer.mode = TransferMode::kByLayer;
  auto transfer = target_->transfer("source", from, blocks, by_layer);
  ASSERT_TRUE(transfer.ok()) << transfer.status().to_string();
  ASSERT_TRUE(wait_until([&] { return count("reserved") == 3; })) << "a peer writes into them now";
  const auto refused = source_->insert({content_, tokens_}, blocks);
  EXPECT_EQ(refused.status().code(), StatusCode::kInvalidArgument) << refused.status().to_string();
  EXPECT_EQ(count("published"), 0u);
  ASSERT_TRUE(transfer->send_layers(0, 3).ok());
  ASSERT_TRUE(transfer->commit().ok());
  ASSERT_TRUE(transfer->wait().ok()) << transfer->wait().to_string();
  const auto inserted = source_->insert({content_, tokens_}, blocks);
  ASSERT_TRUE(inserted.ok()) << inserted.status().to_string();
  const auto other = source_->insert({content_, make_tokens(12, 500)}, inserted->serving);
  EXPECT_EQ(other.status().code(), StatusCode::kInvalidArgument);
  ASSERT_TRUE(source_->free(blocks).ok());
  EXPECT_EQ(source_->insert({content_, make_tokens(12, 500)}, blocks).status().code(),
            StatusCode::kStale);
}

TEST_P(AdoptTest, a_block_of_wrong_bytes_is_claimed_to_be_written_anew) {
  const EngineMemory tensors(source_->layout(), kTensorBlocks);
  ASSERT_TRUE(source_->adopt("kv", tensors.options(/*in_place=*/true)).ok());
  const auto blocks = claim_filled(tensors, {0, 1, 2}, tokens_);
  ASSERT_TRUE(source_->insert({content_, tokens_}, blocks).ok());
  *tensors.piece(1, 0, 0) ^= std::byte{1};
  std::vector<std::byte> copy(source_->layout().block_bytes);
  ASSERT_EQ(source_->read(blocks[1], copy).code(), StatusCode::kCorruption);
  ASSERT_TRUE(source_->unpin(blocks).ok());
  const uint32_t twice[] = {1, 1};
  EXPECT_EQ(source_->claim("kv", twice).status().code(), StatusCode::kInvalidArgument);
  const uint32_t second[] = {1};
  EXPECT_TRUE(source_->claim("kv", second).ok());
}

TEST_P(AdoptTest, a_copying_insert_without_room_changes_nothing) {
  const EngineMemory tensors(source_->layout(), kTensorBlocks);
  ASSERT_TRUE(source_->adopt("kv", tensors.options()).ok());
  const auto blocks = claim_filled(tensors, {0, 1, 2}, tokens_);
  const auto all = source_->alloc(count("free"));
  ASSERT_TRUE(all.ok());
  EXPECT_EQ(source_->insert({content_, tokens_}, blocks).status().code(),
            StatusCode::kResourceExhausted);
  EXPECT_EQ(source_->match({content_, tokens_}).tokens, 0u);
  EXPECT_TRUE(source_->free(blocks).ok());
}

TEST_P(AdoptTest, blocks_inserted_in_place_serve_until_they_are_claimed_anew) {
  const EngineMemory tensors(source_->layout(), kTensorBlocks);
  ASSERT_TRUE(source_->adopt("kv", tensors.options(/*in_place=*/true)).ok());
  const auto blocks = claim_filled(tensors, {0, 1, 2}, tokens_);
  const auto inserted = source_->insert({content_, tokens_}, blocks);
  ASSERT_TRUE(inserted.ok()) << inserted.status().to_string();
  EXPECT_EQ(inserted->serving, blocks);
  EXPECT_TRUE(inserted->duplicates.empty());
  ASSERT_TRUE(source_->unpin(blocks).ok());

  const auto fetched = target_->fetch("source", {content_, tokens_});
  ASSERT_TRUE(fetched.ok());
  ASSERT_TRUE(fetched->wait().ok()) << fetched->wait().to_string();
  EXPECT_TRUE(hold(*target_, fetched->report().serving, tokens_));
  EXPECT_TRUE(wait_until([&] { return source_->status().pins == 0; })) << "the lease is over";

  const MatchResult held = source_->match({content_, tokens_});
  EXPECT_EQ(held.blocks, blocks);
  const uint32_t second[] = {1};
  const auto refused = source_->claim("kv", second);
  EXPECT_EQ(refused.status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(refused.status().message(),
            "block 1 of 'kv' is published, with 1 pins; claim it when they are gone");
  ASSERT_TRUE(source_->unpin(held.blocks).ok());
  const auto claimed = source_->claim("kv", second);
  ASSERT_TRUE(claimed.ok()) << claimed.status().to_string();
  EXPECT_EQ(source_->match({content_, tokens_}).tokens, size_t{kBlockTokens})
      << "what continued it is gone as well";
  EXPECT_EQ(source_->pin({&blocks[1], 1}).code(), StatusCode::kStale);
}

TEST_P(AdoptTest, blocks_published_in_place_make_no_room_in_the_pool) {
  const EngineMemory tensors(source_->layout(), kTensorBlocks);
  ASSERT_TRUE(source_->adopt("kv", tensors.options(/*in_place=*/true)).ok());
  const auto blocks = claim_filled(tensors, {0, 1, 2}, tokens_);
  ASSERT_TRUE(source_->insert({content_, tokens_}, blocks).ok());
  ASSERT_TRUE(source_->unpin(blocks).ok());
  const auto common = make_tokens(12, 1000);
  const auto own = filled_blocks(*source_, common);
  ASSERT_TRUE(source_->insert({content_, common}, own).ok());
  ASSERT_TRUE(source_->unpin(own).ok());
  const auto all = source_->alloc(64);
  ASSERT_TRUE(all.ok()) << all.status().to_string() << ": the pool's own published blocks give way";
  EXPECT_EQ(source_->alloc(1).status().code(), StatusCode::kResourceExhausted);
}

TEST_P(AdoptTest, withdrawing_waits_until_nobody_uses_the_memory) {
  const EngineMemory tensors(source_->layout(), kTensorBlocks);
  ASSERT_TRUE(source_->adopt("kv", tensors.options(/*in_place=*/true)).ok());
  const auto blocks = claim_filled(tensors, {0, 1, 2}, tokens_);
  ASSERT_TRUE(source_->insert({content_, tokens_}, blocks).ok());
  const Status kept = source_->withdraw("kv", 20ms);
  EXPECT_EQ(kept.code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(kept.message(), "blocks are still in use (3 private)");
  EXPECT_EQ(source_->match({content_, tokens_}).tokens, 0u);
  ASSERT_TRUE(source_->free(blocks).ok());
  const uint32_t first[] = {0};
  EXPECT_TRUE(source_->claim("kv", first).ok()) << "it is still adopted";
  EXPECT_EQ(source_->withdraw("kv", 0ms).code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(source_->withdraw("other", 1s).code(), StatusCode::kNotFound);
}

TEST_P(AdoptTest, an_owner_is_let_go_of_with_the_memory_and_its_views) {
  auto owner = std::make_shared<const int>();
  const std::weak_ptr<const int> kept = owner;
  const EngineMemory tensors(source_->layout(), kTensorBlocks);
  AdoptOptions options = tensors.options();
  options.shards[0].owner = std::move(owner);
  ASSERT_TRUE(source_->adopt("kv", options).ok());
  options.shards.clear();
  EXPECT_FALSE(kept.expired());
  auto view = source_->segment(source_->status().segments.size());
  ASSERT_TRUE(view.ok());
  ASSERT_TRUE(source_->withdraw("kv", 10s).ok());
  EXPECT_FALSE(kept.expired());
  view->memory.reset();
  EXPECT_TRUE(kept.expired());
}

TEST_P(AdoptTest, stop_ends_what_waits_and_leaves_the_blocks) {
  const EngineMemory tensors(source_->layout(), kTensorBlocks);
  ASSERT_TRUE(source_->adopt("kv", tensors.options()).ok());
  const auto blocks = claim_filled(tensors, {0, 1, 2}, tokens_);
  auto transfer = source_->transfer_with_insert("target", {content_, tokens_}, blocks,
                                                {.ready = Fence::pending()});
  ASSERT_TRUE(transfer.ok());
  auto withdrawn = std::async(std::launch::async, [this] { return source_->withdraw("kv", 1h); });
  source_->stop();
  EXPECT_EQ(withdrawn.get().code(), StatusCode::kCancelled);
  EXPECT_EQ(transfer->wait().code(), StatusCode::kCancelled);
  EXPECT_EQ(source_->receive(1h).status().code(), StatusCode::kCancelled);
  EXPECT_TRUE(source_->piece(blocks[0], 0, 0).ok());
  source_->stop();
}

TEST_P(AdoptTest, a_block_aside_for_its_bytes_does_not_hold_the_memory_back) {
  const EngineMemory tensors(source_->layout(), kTensorBlocks);
  ASSERT_TRUE(source_->adopt("kv", tensors.options(/*in_place=*/true)).ok());
  const auto blocks = claim_filled(tensors, {0, 1, 2}, tokens_);
  ASSERT_TRUE(source_->insert({content_, tokens_}, blocks).ok());
  *tensors.piece(1, 0, 0) ^= std::byte{1};
  std::vector<std::byte> copy(source_->layout().block_bytes);
  EXPECT_EQ(source_->read(blocks[1], copy).code(), StatusCode::kCorruption);
  EXPECT_EQ(count("quarantined"), 1u);
  ASSERT_TRUE(source_->unpin(blocks).ok());
  const Status withdrawn = source_->withdraw("kv", 10s);
  EXPECT_TRUE(withdrawn.ok()) << withdrawn.to_string();
}

TEST_P(AdoptTest, what_is_withdrawn_under_a_fetch_is_read_whole_or_not_at_all) {
  const EngineMemory tensors(source_->layout(), kTensorBlocks);
  size_t brought = 0;
  for (int round = 0; round < 20; ++round) {
    ASSERT_TRUE(source_->adopt("kv", tensors.options(/*in_place=*/true)).ok());
    const auto tokens = make_tokens(32, static_cast<TokenId>(round) * 1000);
    std::vector<uint32_t> numbers(kTensorBlocks);
    std::iota(numbers.begin(), numbers.end(), 0u);
    const auto blocks = claim_filled(tensors, numbers, tokens);
    ASSERT_TRUE(source_->insert({content_, tokens}, blocks).ok());
    ASSERT_TRUE(source_->unpin(blocks).ok());
    const auto fetched = target_->fetch("source", {content_, tokens});
    ASSERT_TRUE(fetched.ok());
    ASSERT_TRUE(wait_until([&] { return fetched->done() || source_->status().pins > 0; }));
    const Status withdrawn = source_->withdraw("kv", 10s);
    ASSERT_TRUE(withdrawn.ok()) << withdrawn.to_string();
    for (uint32_t number : numbers) *tensors.piece(number, 0, 0) ^= std::byte{0xff};
    ASSERT_TRUE(fetched->wait().ok()) << fetched->wait().to_string();
    const auto serving = fetched->report().serving;
    EXPECT_TRUE(hold(*target_, serving, tokens));
    ASSERT_TRUE(target_->unpin(serving).ok());
    brought += serving.size();
  }
  EXPECT_GT(brought, 0u);
}

TEST_P(AdoptTest, what_cannot_be_adopted_gets_one_clear_error) {
  const EngineMemory tensors(source_->layout(), kTensorBlocks);
  AdoptOptions options = tensors.options();
  options.shards.clear();
  EXPECT_EQ(source_->adopt("kv", options).code(), StatusCode::kInvalidArgument);
  options = tensors.options();
  options.shards[0].layer_stride = options.shards[0].part_stride;
  Status refused = source_->adopt("kv", options);
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(refused.message().find("they overlap"), std::string::npos) << refused.message();
  EXPECT_EQ(source_->adopt("", tensors.options()).code(), StatusCode::kInvalidArgument);
  const uint32_t first[] = {0};
  EXPECT_EQ(source_->claim("kv", first).status().code(), StatusCode::kNotFound);
  ASSERT_TRUE(source_->adopt("kv", tensors.options()).ok());
  EXPECT_EQ(source_->adopt("kv", tensors.options()).code(), StatusCode::kAlreadyExists);
  const uint32_t past[] = {kTensorBlocks};
  EXPECT_EQ(source_->claim("kv", past).status().code(), StatusCode::kInvalidArgument);
  const int resizable = memfd_create("engine", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  options = tensors.options();
  options.shards[0].descriptor = resizable;
  EXPECT_EQ(source_->adopt("other", options).code(), StatusCode::kPermissionDenied);
  close(resizable);
}

INSTANTIATE_TEST_SUITE_P(Transports, AdoptTest, ::testing::Values("local", "tcp", "shm"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace mempool
