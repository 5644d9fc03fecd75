// SPDX-License-Identifier: Apache-2.0
// Owns the checks of an engine beside its agent whose pool changes, and that lends its own memory.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "mempool/attach.h"
#include "tests/agent/attach_fixture.h"
#include "tests/agent/engine_memory.h"

namespace mempool {
namespace {

using namespace std::chrono_literals;
using testing::attach_engine;
using testing::EngineMemory;
using testing::fill;
using testing::filled_blocks;
using testing::hold;
using testing::holds;
using testing::make_tokens;
using testing::TensorForm;
using testing::TensorMemory;
using testing::wait_until;

class AttachAdoptTest : public testing::AttachFixture {
 protected:
  static bool nothing_adopted(const Agent& agent) {
    return wait_until([&agent] {
      const AgentStatus status = agent.status();
      return status.adopted.empty() && status.blocks.at("unclaimed") == 0;
    });
  }
};

TEST_P(AttachAdoptTest, an_engine_reaches_blocks_that_have_grown_since_it_attached) {
  const auto engine = attach_engine(prefill_path_);
  ASSERT_TRUE(prefill_->grow(16).ok());
  const auto tokens = make_tokens(80 * 4);
  const auto blocks = filled_blocks(*engine, tokens);
  ASSERT_EQ(blocks.size(), 80u);
  EXPECT_TRUE(hold(*prefill_, blocks, tokens)) << "both see the same memory";
  ASSERT_TRUE(engine->free(blocks).ok());
}

TEST_P(AttachAdoptTest, a_place_that_another_segment_has_taken_is_mapped_anew) {
  const auto engine = attach_engine(prefill_path_);
  for (int round = 0; round < 5; ++round) {
    ASSERT_TRUE(prefill_->grow(16).ok());
    const auto tokens = make_tokens(80 * 4, static_cast<TokenId>(round) * 1000);
    const auto blocks = filled_blocks(*engine, tokens);
    ASSERT_EQ(blocks.size(), 80u);
    EXPECT_TRUE(hold(*prefill_, blocks, tokens)) << "round " << round;
    ASSERT_TRUE(engine->free(blocks).ok());
    const Status shrunk = prefill_->shrink(10s);
    ASSERT_TRUE(shrunk.ok()) << shrunk.to_string();
    EXPECT_FALSE(engine->piece(blocks.back(), 0, 0).ok());
  }
}

TEST_P(AttachAdoptTest, tensors_of_an_engine_are_sent_from_where_they_lie) {
  const auto engine = attach_engine(prefill_path_);
  const EngineMemory tensors(engine->layout(), 8, TensorForm::kPartsInBlock);
  const Status adopted = engine->adopt("kv", tensors.options());
  ASSERT_TRUE(adopted.ok()) << adopted.to_string();
  const uint32_t numbers[] = {6, 2, 3};
  const auto blocks = engine->claim("kv", numbers);
  ASSERT_TRUE(blocks.ok()) << blocks.status().to_string();
  const auto tokens = make_tokens(12);
  for (size_t i = 0; i < blocks->size(); ++i) fill(*engine, (*blocks)[i], tokens[i * 4]);
  EXPECT_EQ(*tensors.piece(2, 1, 1), testing::kv_byte(tokens[4], 1, 1, 0))
      << "piece() writes to the engine's own memory";
  auto transfer = engine->transfer_with_insert("decode", {content_, tokens}, *blocks);
  ASSERT_TRUE(transfer.ok()) << transfer.status().to_string();
  ASSERT_TRUE(transfer->wait().ok()) << transfer->wait().to_string();
  const auto arrival = decode_->match({content_, tokens});
  EXPECT_EQ(arrival.tokens, tokens.size());
  EXPECT_TRUE(hold(*decode_, arrival.blocks, tokens));
  EXPECT_TRUE(decode_->unpin(arrival.blocks).ok());
  ASSERT_TRUE(engine->free(*blocks).ok());
  const Status withdrawn = engine->withdraw("kv", 10s);
  ASSERT_TRUE(withdrawn.ok()) << withdrawn.to_string();
  EXPECT_TRUE(prefill_->status().adopted.empty());
}

TEST_P(AttachAdoptTest, memory_may_come_right_behind_a_word_that_nobody_answers) {
  const auto engine = attach_engine(prefill_path_);
  const EngineMemory tensors(engine->layout(), 8);
  const auto tokens = make_tokens(4);
  const auto blocks = filled_blocks(*engine, tokens);
  ASSERT_TRUE(engine->insert({content_, tokens}, blocks).ok());
  std::vector<std::byte> copy(engine->layout().block_bytes);
  for (int round = 0; round < 200; ++round) {
    ASSERT_TRUE(engine->read(blocks[0], copy).ok());  // its end is told, not asked
    const Status adopted = engine->adopt("kv", tensors.options());
    ASSERT_TRUE(adopted.ok()) << "round " << round << ": " << adopted.to_string();
    ASSERT_TRUE(engine->withdraw("kv", 10s).ok());
  }
  ASSERT_TRUE(engine->unpin(blocks).ok());
}

TEST_P(AttachAdoptTest, inserting_copies_out_of_an_engines_tensors) {
  const auto engine = attach_engine(prefill_path_);
  const EngineMemory tensors(engine->layout(), 8);
  ASSERT_TRUE(engine->adopt("kv", tensors.options()).ok());
  const uint32_t numbers[] = {0, 1, 2};
  const auto blocks = engine->claim("kv", numbers).value();
  const auto tokens = make_tokens(12);
  for (size_t i = 0; i < blocks.size(); ++i) fill(*engine, blocks[i], tokens[i * 4]);
  EXPECT_EQ(prefill_->insert({content_, tokens}, blocks).status().code(),
            StatusCode::kInvalidArgument)
      << "they are the engine's to insert";
  const auto inserted = engine->insert({content_, tokens}, blocks);
  ASSERT_TRUE(inserted.ok()) << inserted.status().to_string();
  EXPECT_EQ(inserted->duplicates, blocks);
  for (uint32_t number : numbers) *tensors.piece(number, 0, 0) ^= std::byte{1};
  const MatchResult match = engine->match({content_, tokens});
  EXPECT_TRUE(hold(*prefill_, match.blocks, tokens));
  EXPECT_TRUE(engine->unpin(match.blocks).ok());
  const Status kept = engine->withdraw("kv", 120ms);
  EXPECT_EQ(kept.code(), StatusCode::kDeadlineExceeded) << "they are claimed";
  ASSERT_TRUE(engine->free(blocks).ok());
  EXPECT_TRUE(engine->withdraw("kv", 10s).ok());
}

TEST_P(AttachAdoptTest, an_engine_that_leaves_takes_its_memory_with_it) {
  auto engine = attach_engine(prefill_path_);
  const EngineMemory tensors(engine->layout(), 8);
  ASSERT_TRUE(engine->adopt("kv", tensors.options(/*in_place=*/true)).ok());
  const uint32_t numbers[] = {0, 1, 2};
  const auto blocks = engine->claim("kv", numbers).value();
  const auto tokens = make_tokens(12);
  for (size_t i = 0; i < blocks.size(); ++i) fill(*engine, blocks[i], tokens[i * 4]);
  ASSERT_TRUE(engine->insert({content_, tokens}, blocks).ok());
  const uint32_t more[] = {5, 6};
  ASSERT_TRUE(engine->claim("kv", more).ok());
  EXPECT_EQ(prefill_->match({content_, tokens}).tokens, 12u);
  ASSERT_TRUE(prefill_->unpin(blocks).ok());
  engine.reset();
  EXPECT_TRUE(nothing_adopted(*prefill_));
  EXPECT_TRUE(all_given_back(*prefill_));
  EXPECT_EQ(prefill_->match({content_, tokens}).tokens, 0u);
  engine = attach_engine(prefill_path_);
  const Status adopted = engine->adopt("kv", tensors.options());
  EXPECT_TRUE(adopted.ok()) << "the name is free again: " << adopted.to_string();
}

TEST_P(AttachAdoptTest, what_is_said_right_before_it_does_not_take_the_memory_away) {
  const auto engine = attach_engine(prefill_path_);
  const EngineMemory tensors(engine->layout(), 8);
  const auto tokens = make_tokens(4);
  const auto blocks = filled_blocks(*engine, tokens);
  ASSERT_TRUE(engine->insert({content_, tokens}, blocks).ok());
  std::vector<std::byte> copy(engine->layout().block_bytes);
  for (int round = 0; round < 50; ++round) {
    ASSERT_TRUE(engine->read(blocks[0], copy).ok());  // its end is told, and has no answer
    const Status adopted = engine->adopt("kv", tensors.options());
    ASSERT_TRUE(adopted.ok()) << adopted.to_string();
    ASSERT_TRUE(engine->withdraw("kv", 10s).ok());
  }
}

TEST_P(AttachAdoptTest, pieces_are_reached_while_segments_come_and_go) {
  const auto engine = attach_engine(prefill_path_);
  const auto tokens = make_tokens(4);
  const auto blocks = filled_blocks(*engine, tokens);
  std::atomic<bool> over{false};
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      while (!over) EXPECT_TRUE(holds(*engine, blocks[0], tokens[0]));
    });
  }
  for (int round = 0; round < 30; ++round) {
    ASSERT_TRUE(prefill_->grow(8).ok());
    const Status shrunk = prefill_->shrink(10s);
    ASSERT_TRUE(shrunk.ok()) << shrunk.to_string();
  }
  over = true;
  for (std::thread& reader : readers) reader.join();
}

TEST_P(AttachAdoptTest, a_withdrawal_ends_when_another_thread_lets_go) {
  const auto engine = attach_engine(prefill_path_);
  const EngineMemory tensors(engine->layout(), 8);
  ASSERT_TRUE(engine->adopt("kv", tensors.options()).ok());
  const uint32_t numbers[] = {1};
  const auto blocks = engine->claim("kv", numbers).value();
  std::thread lets_go([&] {
    std::this_thread::sleep_for(30ms);  // so that it is waited for; either order must do
    EXPECT_TRUE(engine->free(blocks).ok());
  });
  const Status withdrawn = engine->withdraw("kv", 10s);
  lets_go.join();
  EXPECT_TRUE(withdrawn.ok()) << withdrawn.to_string();
}

TEST_P(AttachAdoptTest, memory_that_the_agent_cannot_map_is_refused) {
  const auto engine = attach_engine(prefill_path_);
  const EngineMemory anonymous(engine->layout(), 8, TensorForm::kLayers, TensorMemory::kAnonymous);
  EXPECT_EQ(engine->adopt("kv", anonymous.options()).code(), StatusCode::kInvalidArgument);
  const EngineMemory tensors(engine->layout(), 8);
  AdoptOptions options = tensors.options();
  options.shards[0].bytes *= 2;
  options.blocks *= 2;
  options.shards[0].part_stride *= 2;
  options.shards[0].layer_stride *= 2;
  const Status refused = engine->adopt("kv", options);
  EXPECT_FALSE(refused.ok()) << "the memfd is half as large";
  options = tensors.options();
  options.shards[0].block_stride = 1;
  EXPECT_EQ(engine->adopt("kv", options).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(engine->alloc(1).ok()) << "the attachment goes on";
}

INSTANTIATE_TEST_SUITE_P(Transports, AttachAdoptTest, ::testing::Values("tcp", "shm"),
                         [](const auto& info) { return info.param; });

TEST(AttachRanks, adopt_one_shard_each_under_one_name) {
  const auto folder =
      std::filesystem::temp_directory_path() / fmt::format("mempool_ranks_{}", getpid());
  std::filesystem::create_directories(folder);
  AgentOptions options = testing::small_options("tp");
  options.shards = 2;
  options.engine_socket = folder / "tp.sock";
  const auto agent = testing::start_agent(options);
  ASSERT_NE(agent, nullptr);
  std::vector<std::unique_ptr<Pool>> ranks;
  std::vector<std::unique_ptr<EngineMemory>> tensors;
  for (uint32_t rank = 0; rank < 2; ++rank) {
    AttachOptions attaching;
    attaching.path = options.engine_socket;
    attaching.shard = rank;
    attaching.shards = 2;
    ranks.push_back(attach(attaching).value());
    tensors.push_back(std::make_unique<EngineMemory>(ranks[0]->layout(0, rank), 8));
  }
  const uint32_t numbers[] = {3, 4};
  ASSERT_TRUE(ranks[0]->adopt("kv", tensors[0]->options()).ok());
  EXPECT_EQ(ranks[0]->claim("kv", numbers).status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(ranks[0]->adopt("kv", tensors[0]->options()).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(ranks[1]->adopt("kv", tensors[1]->options(/*in_place=*/true)).code(),
            StatusCode::kInvalidArgument);
  const Status second = ranks[1]->adopt("kv", tensors[1]->options());
  ASSERT_TRUE(second.ok()) << second.to_string();
  const auto blocks = ranks[0]->claim("kv", numbers);
  ASSERT_TRUE(blocks.ok()) << blocks.status().to_string();
  for (uint32_t rank = 0; rank < 2; ++rank) {
    const auto piece = ranks[rank]->piece((*blocks)[1], 2, 1, rank);
    ASSERT_TRUE(piece.ok()) << piece.status().to_string();
    std::memset(piece->data(), static_cast<int>(rank + 1), piece->size());
    EXPECT_EQ(*tensors[rank]->piece(4, 2, 1), static_cast<std::byte>(rank + 1));
  }
  ranks[1].reset();
  ranks[0].reset();
  EXPECT_TRUE(wait_until([&] { return agent->status().adopted.empty(); }));
  EXPECT_EQ(agent->status().audit.to_string(), "OK");
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace mempool
