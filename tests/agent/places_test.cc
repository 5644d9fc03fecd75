// SPDX-License-Identifier: Apache-2.0
// Owns the checks of blocks held at a peer and of transfers to given places, between agents over
// every transport, and between attached engines.
#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "mempool/agent.h"
#include "tests/agent/agent_pair.h"
#include "tests/agent/attach_fixture.h"

namespace mempool {
namespace {

using namespace std::chrono_literals;
using testing::attach_engine;
using testing::filled_blocks;
using testing::holds;
using testing::kv_byte;
using testing::make_tokens;
using testing::small_options;
using testing::small_spec;
using testing::start_agent;
using testing::wait_until;

class PlacesTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    AgentOptions target = small_options("decode", GetParam());
    target.placement.form = BlockForm::kAggregated;
    target_ = start_agent(target);
    source_ = start_agent(small_options("prefill", GetParam()));
    ASSERT_TRUE(source_ != nullptr && target_ != nullptr);
    source_->add_peer("decode", target_->status().listen);
    blocks_ = filled_blocks(*source_, tokens_);
  }
  void TearDown() override {
    for (const Agent* agent : {source_.get(), target_.get()}) {
      if (agent == nullptr) continue;
      EXPECT_TRUE(agent->status().audit.ok()) << agent->status().audit.to_string();
    }
  }

  std::vector<BlockAddress> held(size_t count) {
    auto blocks = source_->alloc(count, Medium::kHost, "decode", 5s);
    EXPECT_TRUE(blocks.ok()) << blocks.status().to_string();
    return blocks.ok() ? *blocks : std::vector<BlockAddress>();
  }
  Result<Transfer> start(const std::vector<BlockAddress>& places, TransferOptions options = {}) {
    return source_->transfer("decode", std::span(blocks_).first(places.size()), places, options);
  }
  Status send(const std::vector<BlockAddress>& places) {
    const auto transfer = start(places);
    return transfer.ok() ? transfer->wait() : transfer.status();
  }
  uint64_t count(const std::string& state) const { return target_->status().blocks.at(state); }
  bool target_is_empty() const {
    return wait_until([this] { return count("free") == target_->status().total; });
  }
  void expect_arrived(const std::vector<BlockAddress>& places, uint64_t request_id = 0) {
    const auto arrival = target_->receive(5s);
    ASSERT_TRUE(arrival.ok()) << arrival.status().to_string();
    EXPECT_EQ(arrival->source, "prefill");
    EXPECT_EQ(arrival->request_id, request_id);
    EXPECT_EQ(arrival->blocks, places);
    EXPECT_TRUE(arrival->tokens.empty());
    EXPECT_EQ(arrival->last_block_tokens, 0u);
    for (size_t i = 0; i < places.size(); ++i) {
      EXPECT_TRUE(holds(*target_, places[i], tokens_[i * small_spec().tokens_per_block]));
    }
    EXPECT_TRUE(target_->unpin(arrival->blocks).ok());
    EXPECT_TRUE(target_is_empty());
  }

  const std::vector<TokenId> tokens_ = make_tokens(12);
  std::unique_ptr<Agent> source_;
  std::unique_ptr<Agent> target_;
  std::vector<BlockAddress> blocks_;  // at the source, three of them
};

TEST_P(PlacesTest, kv_goes_into_blocks_that_the_target_holds) {
  auto places = held(3);
  ASSERT_EQ(places.size(), 3u);
  EXPECT_EQ(places[0].incarnation, target_->status().incarnation);
  EXPECT_EQ(count("reserved"), 3u);
  std::ranges::reverse(places);
  TransferOptions options;
  options.request_id = 9;
  options.user_data = {std::byte{7}};
  const auto transfer = start(places, options);
  ASSERT_TRUE(transfer.ok()) << transfer.status().to_string();
  ASSERT_TRUE(transfer->wait().ok()) << transfer->wait().to_string();
  EXPECT_EQ(transfer->report().serving, places);
  EXPECT_EQ(transfer->report().bytes, 3 * source_->layout().block_bytes);
  EXPECT_EQ(transfer->report().transport, GetParam());
  EXPECT_EQ(source_->free(places).code(), StatusCode::kStale);  // the transfer took them over
  expect_arrived(places, 9);
}

TEST_P(PlacesTest, kv_goes_into_blocks_that_the_targets_engine_is_filling) {
  const auto places = target_->alloc(3);
  ASSERT_TRUE(places.ok());
  ASSERT_TRUE(send(*places).ok());
  EXPECT_EQ(target_->status().pins, 3u);  // as before, once each
  expect_arrived(*places);
}

TEST_P(PlacesTest, kv_goes_into_both_by_layer_and_is_read_only_when_it_is_there) {
  auto places = held(2);
  const auto own = target_->alloc(1);
  places.push_back(own->front());
  TransferOptions options;
  options.mode = TransferMode::kByLayer;
  auto transfer = start(places, options);
  ASSERT_TRUE(transfer.ok()) << transfer.status().to_string();
  ASSERT_TRUE(transfer->send_layers(0, 1).ok());
  ASSERT_TRUE(wait_until([this] { return count("reserved") == 3; }));
  EXPECT_EQ(target_->free(*own).code(), StatusCode::kInvalidArgument);
  std::vector<std::byte> copy(target_->layout().block_bytes);
  EXPECT_EQ(target_->read(own->front(), copy).code(), StatusCode::kInvalidArgument);
  const auto content = target_->content(small_spec());
  const auto tokens = make_tokens(4);
  EXPECT_EQ(target_->insert({*content, tokens}, *own).status().code(),
            StatusCode::kInvalidArgument);
  ASSERT_TRUE(transfer->send_layers(1, 2).ok());
  ASSERT_TRUE(transfer->commit().ok());
  ASSERT_TRUE(transfer->wait().ok()) << transfer->wait().to_string();
  EXPECT_TRUE(target_->read(own->front(), copy).ok());
  expect_arrived(places);
}

TEST_P(PlacesTest, a_cancelled_transfer_gives_its_places_back) {
  auto places = held(2);
  const auto own = target_->alloc(1);
  places.push_back(own->front());
  TransferOptions options;
  options.mode = TransferMode::kByLayer;
  auto transfer = start(places, options);
  ASSERT_TRUE(transfer.ok());
  ASSERT_TRUE(transfer->send_layers(0, 1).ok());
  ASSERT_TRUE(wait_until([this] { return count("reserved") == 3; }));
  transfer->cancel();
  EXPECT_EQ(transfer->wait().code(), StatusCode::kCancelled);
  EXPECT_TRUE(wait_until([this] { return count("free") == target_->status().total - 1; }));
  EXPECT_EQ(count("quarantined"), 1u);  // it waits for its engine
  EXPECT_TRUE(target_->unpin(*own).ok());
  EXPECT_TRUE(target_is_empty());
}

TEST_P(PlacesTest, what_is_held_is_given_back_once) {
  const auto places = held(3);
  EXPECT_TRUE(source_->free(std::span(places).first(1)).ok());
  EXPECT_EQ(source_->free(places).code(), StatusCode::kStale);
  EXPECT_TRUE(source_->free(std::span(places).subspan(1)).ok());
  EXPECT_TRUE(target_is_empty());
  EXPECT_EQ(send({places[0]}).code(), StatusCode::kStale);
  const BlockAddress mixed[] = {blocks_[0], held(1)[0]};
  EXPECT_EQ(source_->free(mixed).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(source_->free(std::span(mixed).last(1)).ok());
  EXPECT_TRUE(target_is_empty());
}

TEST_P(PlacesTest, no_room_is_said_at_once_with_a_hint) {
  const auto all = target_->alloc(target_->status().total - 1);
  ASSERT_TRUE(all.ok());
  const Status full = source_->alloc(2, Medium::kHost, "decode").status();
  EXPECT_EQ(full.code(), StatusCode::kResourceExhausted);
  EXPECT_GT(full.retry_after_ms(), 0u);
}

TEST_P(PlacesTest, bad_places_move_nothing) {
  const auto own = target_->alloc(2);
  const auto content = target_->content(small_spec());
  const auto tokens = make_tokens(4);
  ASSERT_TRUE(target_->insert({*content, tokens}, std::span(*own).first(1)).ok());
  auto good = held(1)[0];
  BlockAddress old = (*own)[1];
  old.generation -= 1;
  BlockAddress foreign = good;
  foreign.incarnation ^= 1;
  EXPECT_EQ(send({(*own)[1], old}).code(), StatusCode::kStale);
  EXPECT_EQ(send({(*own)[1], foreign}).code(), StatusCode::kStale);
  EXPECT_EQ(send({(*own)[1], blocks_[0]}).code(), StatusCode::kStale);
  EXPECT_EQ(send({(*own)[1], (*own)[0]}).code(), StatusCode::kInvalidArgument);  // published
  EXPECT_EQ(send({good, good}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(source_->transfer("decode", blocks_, {&good, 1}).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(send({}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(source_->transfer("nobody", std::span(blocks_).first(1), {&good, 1}).status().code(),
            StatusCode::kNotFound);
  EXPECT_EQ(count("writing"), 1u);
  EXPECT_EQ(count("reserved"), 1u);
  EXPECT_TRUE(source_->free({&good, 1}).ok());
}

TEST_P(PlacesTest, bad_asks_are_refused) {
  EXPECT_EQ(source_->alloc(1, Medium::kHost, "").status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(source_->alloc(1, Medium::kHost, "prefill").status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(source_->alloc(1, Medium::kHost, "nobody").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(source_->alloc(0, Medium::kHost, "decode").status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(source_->alloc(1, Medium::kDevice, "decode").status().code(), StatusCode::kUnsupported);
}

TEST_P(PlacesTest, what_changed_since_it_was_sealed_is_found_in_its_place) {
  const auto content = source_->content(small_spec());
  ASSERT_TRUE(source_->insert({*content, tokens_}, blocks_).ok());
  (*source_->piece(blocks_[1], 0, 1))[3] ^= std::byte{4};
  EXPECT_EQ(send(held(3)).code(), StatusCode::kCorruption);
  EXPECT_EQ(target_->receive(0ms).status().code(), StatusCode::kDeadlineExceeded);
  source_.reset();
  EXPECT_TRUE(target_is_empty());
}

TEST_P(PlacesTest, an_agent_that_stops_gives_back_what_is_held_for_it) {
  held(5);
  EXPECT_EQ(count("reserved"), 5u);
  source_.reset();
  EXPECT_TRUE(target_is_empty());
}

TEST_P(PlacesTest, what_was_held_by_an_agent_that_is_gone_is_stale) {
  const auto places = held(2);
  const std::string listen = target_->status().listen;
  target_.reset();
  AgentOptions again = small_options("decode", GetParam());
  again.listen = listen;
  target_ = start_agent(again);
  ASSERT_NE(target_, nullptr);
  EXPECT_TRUE(wait_until([&] { return source_->free(places).code() == StatusCode::kStale; }));
  EXPECT_TRUE(target_is_empty());
}

TEST_P(PlacesTest, where_nobody_receives_held_places_are_freed) {
  AgentOptions alone = small_options("alone", GetParam());
  alone.deliver_arrivals = false;
  const auto agent = start_agent(alone);
  source_->add_peer("alone", agent->status().listen);
  const auto places = source_->alloc(3, Medium::kHost, "alone");
  ASSERT_TRUE(places.ok()) << places.status().to_string();
  const auto transfer = source_->transfer("alone", blocks_, *places);
  ASSERT_TRUE(transfer.ok());
  EXPECT_TRUE(transfer->wait().ok()) << transfer->wait().to_string();
  EXPECT_EQ(agent->status().blocks.at("free"), agent->status().total);
}

INSTANTIATE_TEST_SUITE_P(Over, PlacesTest, ::testing::Values("local", "shm", "tcp"),
                         [](const auto& info) { return info.param; });

// ---- shards ------------------------------------------------------------------------------------

TEST(PlacesOfShardsTest, heads_go_where_they_belong) {
  AgentOptions source = small_options("prefill");
  AgentOptions target = small_options("decode");
  target.shards = 2;
  target.placement.order = TokenOrder::kHeadToken;
  const auto from = start_agent(source);
  const auto to = start_agent(target);
  ASSERT_TRUE(from != nullptr && to != nullptr);
  from->add_peer("decode", to->status().listen);
  const auto blocks = filled_blocks(*from, make_tokens(8));
  const auto places = from->alloc(2, Medium::kHost, "decode");
  ASSERT_TRUE(places.ok());
  const auto transfer = from->transfer("decode", blocks, *places);
  ASSERT_TRUE(transfer.ok());
  ASSERT_TRUE(transfer->wait().ok()) << transfer->wait().to_string();
  for (size_t i = 0; i < blocks.size(); ++i) {
    for (uint32_t head = 0; head < 2; ++head) {
      const auto sent = *from->piece(blocks[i], 1, 0);
      const auto came = *to->piece((*places)[i], 1, 0, head);
      for (uint32_t token = 0; token < 4; ++token) {
        const uint64_t bytes = from->layout().vector_bytes;
        EXPECT_TRUE(std::equal(
            came.begin() + static_cast<long>(to->layout(0, head).vector_offset(token, 0)),
            came.begin() + static_cast<long>(to->layout(0, head).vector_offset(token, 0) + bytes),
            sent.begin() + static_cast<long>(from->layout().vector_offset(token, head))));
      }
    }
  }
}

// ---- attached engines --------------------------------------------------------------------------

class AttachedPlacesTest : public testing::AttachFixture {};

TEST_P(AttachedPlacesTest, kv_goes_from_engine_to_engine_into_places_of_both_kinds) {
  const auto prefill = attach_engine(prefill_path_);
  const auto decode = attach_engine(decode_path_);
  ASSERT_TRUE(prefill != nullptr && decode != nullptr);
  const auto tokens = make_tokens(12);
  const auto blocks = filled_blocks(*prefill, tokens);
  auto places = prefill->alloc(2, Medium::kHost, "decode");
  ASSERT_TRUE(places.ok()) << places.status().to_string();
  places->push_back(decode->alloc(1)->front());
  const auto transfer = prefill->transfer("decode", blocks, *places);
  ASSERT_TRUE(transfer.ok()) << transfer.status().to_string();
  ASSERT_TRUE(transfer->wait().ok()) << transfer->wait().to_string();
  EXPECT_EQ(transfer->report().serving, *places);
  const auto arrival = decode->receive(5s);
  ASSERT_TRUE(arrival.ok()) << arrival.status().to_string();
  EXPECT_EQ(arrival->blocks, *places);
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(holds(*decode, (*places)[i], tokens[i * 4]));
  EXPECT_EQ(decode_->status().pins, 3u);
  EXPECT_TRUE(decode->free(*places).ok());  // no index holds them, and each pin is the engine's
  EXPECT_TRUE(all_given_back(*decode_));
}

TEST_P(AttachedPlacesTest, engines_give_back_what_is_held_for_them_and_for_no_other) {
  const auto prefill = attach_engine(prefill_path_);
  auto theirs = prefill_->alloc(1, Medium::kHost, "decode");
  auto own = prefill->alloc(2, Medium::kHost, "decode", 5s);
  ASSERT_TRUE(theirs.ok() && own.ok());
  EXPECT_EQ(prefill->free(*theirs).code(), StatusCode::kStale);
  EXPECT_EQ(prefill_->free(*own).code(), StatusCode::kStale);
  const auto blocks = prefill->alloc(1);
  EXPECT_EQ(prefill->transfer("decode", *blocks, *theirs).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_TRUE(prefill->free(*own).ok());
  EXPECT_EQ(prefill->free(*own).code(), StatusCode::kStale);
  EXPECT_TRUE(prefill_->free(*theirs).ok());
  EXPECT_TRUE(all_given_back(*decode_));
  EXPECT_EQ(prefill->alloc(1, Medium::kHost, "prefill").status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(prefill->alloc(1, Medium::kHost, "").status().code(), StatusCode::kInvalidArgument);
}

TEST_P(AttachedPlacesTest, an_engine_that_leaves_gives_back_what_peers_hold_for_it) {
  auto prefill = attach_engine(prefill_path_);
  const auto kept = prefill_->alloc(1, Medium::kHost, "decode");
  ASSERT_TRUE(prefill->alloc(4, Medium::kHost, "decode").ok());
  EXPECT_EQ(decode_->status().blocks.at("reserved"), 5u);
  prefill.reset();
  EXPECT_TRUE(wait_until([this] { return decode_->status().blocks.at("reserved") == 1; }));
  EXPECT_TRUE(prefill_->free(*kept).ok());
  EXPECT_TRUE(all_given_back(*decode_));
}

TEST_P(AttachedPlacesTest, places_of_an_engine_that_leaves_amid_the_transfer_arrive_for_nobody) {
  const auto prefill = attach_engine(prefill_path_);
  auto decode = attach_engine(decode_path_);
  const auto blocks = filled_blocks(*prefill, make_tokens(8));
  const auto places = decode->alloc(2);
  TransferOptions options;
  options.mode = TransferMode::kByLayer;
  auto transfer = prefill->transfer("decode", blocks, *places, options);
  ASSERT_TRUE(transfer.ok()) << transfer.status().to_string();
  ASSERT_TRUE(wait_until([this] { return decode_->status().blocks.at("reserved") == 2; }));
  decode.reset();
  ASSERT_TRUE(wait_until([this] { return decode_->status().pins == 2; }));
  ASSERT_TRUE(transfer->send_layers(0, 3).ok());
  ASSERT_TRUE(transfer->commit().ok());
  EXPECT_TRUE(transfer->wait().ok()) << transfer->wait().to_string();
  EXPECT_TRUE(all_given_back(*decode_));
}

INSTANTIATE_TEST_SUITE_P(Over, AttachedPlacesTest, ::testing::Values("tcp", "shm"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace mempool
