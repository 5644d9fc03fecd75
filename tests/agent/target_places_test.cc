// SPDX-License-Identifier: Apache-2.0
// Owns the proof of what a target does with blocks that are held for a peer, and with places that
// a peer names.
#include <gtest/gtest.h>

#include "agent/source_machine.h"
#include "agent/target_machine.h"
#include "agent/wire.h"
#include "tests/agent/machine_parts.h"

namespace mempool {
namespace {

constexpr SessionId kSession = 4;
constexpr uint64_t kSourceLife = 55;

class TargetPlacesTest : public testing::Test {
 protected:
  TargetPlacesTest() : pool_(tiny_pool(6)), index_(*pool_, make_eviction_policy("lru").value()) {
    make(options());
  }
  void TearDown() override {
    EXPECT_TRUE(pool_->audit().ok()) << pool_->audit().status().to_string();
  }

  static TargetMachine::Options options() {
    TargetMachine::Options options;
    options.model = tiny_content().model;
    options.verify = Verify::kAlways;
    options.max_open = 2;
    return options;
  }
  void make(const TargetMachine::Options& options) {
    machine_ = std::make_unique<TargetMachine>(options, *pool_, index_);
    const PeerInfo source{"prefill", kSourceLife, tiny_content().model, {}};
    ASSERT_TRUE(machine_->on_session_up(kSession, source).ok());
  }
  static Offer offer(uint64_t number) {
    Offer offer;
    offer.number = number;
    offer.request_id = 42;
    offer.deadline_ms = 600;
    offer.content = tiny_content();
    return offer;
  }
  std::vector<Action> take(const Message& message, int64_t ms = 0) {
    machine_->on_message(kSession, message, at_ms(ms));
    return machine_->take_actions();
  }
  OfferReply answer(const Offer& offer) { return messages_of<OfferReply>(take(offer)).at(0); }
  std::vector<BlockAddress> hold(uint64_t number, uint32_t count) {
    Offer asks = offer(number);
    asks.reserve = count;
    const OfferReply reply = answer(asks);
    EXPECT_TRUE(reply.status.ok()) << reply.status.to_string();
    return reply.reserved;
  }
  OfferReply bring(uint64_t number, std::vector<BlockAddress> places) {
    Offer brings = offer(number);
    brings.places = std::move(places);
    return answer(brings);
  }
  std::vector<Action> commit(const OfferReply& reply, std::vector<SealedSum> sums = {}) {
    machine_->on_notified(kSession, reply.slot);
    return take(Commit{reply.number, 1, std::move(sums)});
  }
  std::vector<BlockAddress> filling(uint32_t count, SessionId engine = kCallerSession) {
    std::vector<BlockAddress> blocks;
    EXPECT_TRUE(pool_->alloc(engine, count, BlockState::kWriting, blocks).ok());
    return blocks;
  }
  void expect_refused(std::vector<BlockAddress> places, StatusCode code, std::string_view words) {
    const OfferReply reply = bring(++refused_, std::move(places));
    EXPECT_EQ(reply.status.code(), code) << reply.status.to_string();
    EXPECT_NE(reply.status.message().find(words), std::string_view::npos)
        << reply.status.to_string();
  }
  void end_session() {
    machine_->on_session_down(kSession);
    machine_->on_fenced(kSession);
  }

  std::unique_ptr<BlockPool> pool_;
  LocalIndex index_;
  std::unique_ptr<TargetMachine> machine_;
  uint64_t refused_ = 100;
};

// ---- holding -----------------------------------------------------------------------------------

TEST_F(TargetPlacesTest, blocks_are_held_for_the_peer_and_count_as_no_transfer) {
  const auto held = hold(1, 3);
  EXPECT_EQ(held.size(), 3u);
  EXPECT_EQ(pool_->count(BlockState::kReserved), 3u);
  EXPECT_EQ(pool_->pins_of(kSession, held[0].index()), 1u);
  EXPECT_EQ(machine_->open(), 0u);
}

TEST_F(TargetPlacesTest, asking_again_is_answered_alike_and_holds_no_more) {
  EXPECT_EQ(hold(1, 3), hold(1, 3));
  EXPECT_EQ(pool_->count(BlockState::kReserved), 3u);
}

TEST_F(TargetPlacesTest, holding_evicts_what_nobody_pins) {
  const auto blocks = filling(8);
  const auto tokens = tokens_up_to(32);
  ASSERT_TRUE(index_.insert(kCallerSession, {tiny_content(), tokens}, blocks).ok());
  ASSERT_TRUE(pool_->unpin(kCallerSession, blocks).ok());
  EXPECT_EQ(hold(1, 2).size(), 2u);
  EXPECT_EQ(index_.blocks(), 6u);
}

TEST_F(TargetPlacesTest, no_room_is_said_at_once_with_a_hint_unless_there_never_will_be) {
  filling(6);
  Offer asks = offer(1);
  asks.reserve = 3;
  const OfferReply full = answer(asks);
  EXPECT_EQ(full.status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(full.status.retry_after_ms(), options().retry_hint_ms);
  EXPECT_TRUE(full.reserved.empty());
  asks = offer(2);
  asks.reserve = 9;
  EXPECT_EQ(answer(asks).status.retry_after_ms(), 0u);
  asks = offer(3);
  asks.reserve = kOfferBlocksMax + 1;
  EXPECT_EQ(answer(asks).status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(pool_->count(BlockState::kReserved), 0u);
}

TEST_F(TargetPlacesTest, one_peer_has_half_the_pool_held_and_no_more) {
  const auto held = hold(1, 3);
  Offer asks = offer(2);
  asks.reserve = 2;
  OfferReply full = answer(asks);
  EXPECT_EQ(full.status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(full.status.retry_after_ms(), options().retry_hint_ms);
  EXPECT_NE(full.status.message().find("at most 4, half the pool"), std::string_view::npos);
  asks = offer(3);
  asks.reserve = 5;
  EXPECT_EQ(answer(asks).status.retry_after_ms(), 0u);  // never, however long it waits
  EXPECT_EQ(pool_->count(BlockState::kReserved), 3u);
  take(Cancel{4, {held[0]}});
  EXPECT_EQ(hold(5, 2).size(), 2u);
}

TEST_F(TargetPlacesTest, a_draining_target_holds_nothing_more) {
  machine_->refuse_new();
  Offer asks = offer(1);
  asks.reserve = 1;
  EXPECT_EQ(answer(asks).status.code(), StatusCode::kUnavailable);
}

TEST_F(TargetPlacesTest, a_cancel_gives_back_what_it_names_once) {
  const auto held = hold(1, 3);
  EXPECT_EQ(messages_of<CancelReply>(take(Cancel{2, {held[0], held[1]}})).size(), 1u);
  EXPECT_EQ(pool_->count(BlockState::kReserved), 1u);
  const auto theirs = filling(2);  // the same blocks again, maybe, under other generations
  EXPECT_EQ(messages_of<CancelReply>(take(Cancel{2, {held[0], held[1]}})).size(), 1u);
  EXPECT_TRUE(pool_->check(theirs[0]).ok());
  EXPECT_EQ(pool_->count(BlockState::kReserved), 1u);
}

TEST_F(TargetPlacesTest, a_cancel_of_what_was_asked_for_gives_it_back) {
  hold(1, 3);
  take(Cancel{1, {}});  // the answer was lost, or came too late
  EXPECT_EQ(pool_->count(BlockState::kFree), 8u);
}

TEST_F(TargetPlacesTest, a_cancel_gives_back_what_is_left_of_what_was_asked_for_under_its_number) {
  const auto held = hold(1, 3);
  hold(2, 1);
  ASSERT_TRUE(bring(3, {held[0]}).status.ok());
  take(Cancel{4, {held[1]}});
  take(Cancel{1, {}});
  EXPECT_EQ(pool_->count(BlockState::kReserved), 2u);  // the one of 2, and what is brought
  EXPECT_FALSE(pool_->check(held[2]).ok());
}

TEST_F(TargetPlacesTest, a_cancel_that_overtakes_its_offer_leaves_nothing_held) {
  take(Cancel{1, {}});
  Offer asks = offer(1);
  asks.reserve = 3;
  EXPECT_EQ(answer(asks).status.code(), StatusCode::kCancelled);
  EXPECT_EQ(pool_->count(BlockState::kFree), 8u);
}

TEST_F(TargetPlacesTest, what_is_held_goes_with_the_session) {
  hold(1, 3);
  machine_->on_session_down(kSession);
  EXPECT_EQ(pool_->count(BlockState::kReserved), 3u);  // until the peer is fenced
  machine_->on_fenced(kSession);
  EXPECT_EQ(pool_->count(BlockState::kFree), 8u);
}

TEST_F(TargetPlacesTest, a_goodbye_gives_back_what_is_held) {
  const auto held = hold(1, 3);
  const auto actions = take(Goodbye{});
  EXPECT_EQ(actions_of<CloseSession>(actions).size(), 1u);
  EXPECT_TRUE(actions_of<FencePeer>(actions).empty());
  EXPECT_EQ(pool_->count(BlockState::kFree), 8u);
  EXPECT_FALSE(pool_->check(held[0]).ok());
}

// ---- arriving ----------------------------------------------------------------------------------

TEST_F(TargetPlacesTest, what_arrives_in_held_places_is_the_engines_once) {
  const auto places = hold(1, 2);
  const OfferReply reply = bring(2, {places[1], places[0]});
  ASSERT_TRUE(reply.status.ok()) << reply.status.to_string();
  EXPECT_EQ(reply.reserved, (std::vector{places[1], places[0]}));
  EXPECT_EQ(machine_->open(), 1u);
  const auto actions = commit(reply);
  const auto arrivals = actions_of<DeliverArrival>(actions);
  ASSERT_EQ(arrivals.size(), 1u);
  EXPECT_EQ(arrivals[0].arrival.blocks, reply.reserved);
  EXPECT_EQ(arrivals[0].pinned, reply.reserved);
  EXPECT_TRUE(arrivals[0].arrival.tokens.empty());
  EXPECT_EQ(arrivals[0].arrival.last_block_tokens, 0u);
  EXPECT_EQ(arrivals[0].arrival.request_id, 42u);
  EXPECT_EQ(messages_of<CommitReply>(actions).at(0).serving, reply.reserved);
  EXPECT_EQ(pool_->state(places[0].index()), BlockState::kPrivate);
  EXPECT_EQ(pool_->pins(places[0].index()), 1u);
  EXPECT_EQ(pool_->pins_of(kCallerSession, places[0].index()), 1u);
  EXPECT_EQ(index_.blocks(), 0u);
}

TEST_F(TargetPlacesTest, what_arrives_where_an_engine_was_filling_keeps_its_pin_only) {
  const SessionId engine = kFirstEngineSession;
  auto places = filling(1, engine);
  places.push_back(hold(1, 1).front());
  const OfferReply reply = bring(2, places);
  ASSERT_TRUE(reply.status.ok()) << reply.status.to_string();
  EXPECT_EQ(pool_->state(places[0].index()), BlockState::kReserved);
  EXPECT_FALSE(pool_->free(engine, {&places[0], 1}).ok());
  const auto arrivals = actions_of<DeliverArrival>(commit(reply));
  ASSERT_EQ(arrivals.size(), 1u);
  EXPECT_EQ(arrivals[0].pinned, std::vector{places[1]});
  EXPECT_EQ(pool_->pins(places[0].index()), 1u);
  EXPECT_EQ(pool_->pins_of(engine, places[0].index()), 1u);
  EXPECT_TRUE(pool_->free(engine, {&places[0], 1}).ok());
}

TEST_F(TargetPlacesTest, a_place_whose_engine_has_gone_arrives_for_the_next) {
  const SessionId engine = kFirstEngineSession;
  const auto places = filling(1, engine);
  const OfferReply reply = bring(1, places);
  pool_->end_session(engine);
  EXPECT_EQ(pool_->state(places[0].index()), BlockState::kReserved);
  EXPECT_EQ(actions_of<DeliverArrival>(commit(reply)).at(0).pinned, places);
  EXPECT_EQ(pool_->pins_of(kCallerSession, places[0].index()), 1u);
}

TEST_F(TargetPlacesTest, without_arrivals_held_places_are_freed_and_an_engines_stay_its_own) {
  TargetMachine::Options no_arrivals = options();
  no_arrivals.deliver_arrivals = false;
  make(no_arrivals);
  auto places = filling(1);
  places.push_back(hold(1, 1).front());
  const auto actions = commit(bring(2, places));
  EXPECT_TRUE(actions_of<DeliverArrival>(actions).empty());
  EXPECT_TRUE(messages_of<CommitReply>(actions).at(0).status.ok());
  EXPECT_EQ(pool_->state(places[0].index()), BlockState::kPrivate);
  EXPECT_EQ(pool_->state(places[1].index()), BlockState::kFree);
}

TEST_F(TargetPlacesTest, sums_are_of_positions_in_the_list_and_are_kept) {
  const auto places = hold(1, 2);
  const OfferReply reply = bring(2, places);
  const auto verify = actions_of<VerifyBlocks>(commit(reply, {{1, 77}}));
  ASSERT_EQ(verify.size(), 1u);
  EXPECT_EQ(verify[0].blocks, std::vector{places[1].index()});
  machine_->on_verified(kSession, 2, {});
  EXPECT_EQ(pool_->checksum(places[1].index()), 77u);
  EXPECT_EQ(pool_->checksum(places[0].index()), std::nullopt);
}

TEST_F(TargetPlacesTest, wrong_bytes_in_an_engines_place_are_set_aside_from_it_too) {
  auto places = filling(1);
  places.push_back(hold(1, 1).front());
  const OfferReply reply = bring(2, places);
  commit(reply, {{0, 77}});
  machine_->on_verified(kSession, 2, {places[0].index()});
  const auto actions = machine_->take_actions();
  EXPECT_EQ(messages_of<CommitReply>(actions).at(0).status.code(), StatusCode::kCorruption);
  EXPECT_TRUE(actions_of<DeliverArrival>(actions).empty());
  EXPECT_EQ(pool_->state(places[0].index()), BlockState::kQuarantined);
  EXPECT_EQ(pool_->state(places[1].index()), BlockState::kFree);
  end_session();
  EXPECT_EQ(pool_->state(places[0].index()), BlockState::kQuarantined);  // its engine has it yet
  EXPECT_TRUE(pool_->unpin(kCallerSession, {&places[0], 1}).ok());
  EXPECT_EQ(pool_->count(BlockState::kFree), 8u);
}

// ---- ending badly ------------------------------------------------------------------------------

TEST_F(TargetPlacesTest, a_cancel_frees_held_places_and_an_engines_wait_for_its_unpin) {
  auto places = filling(1);
  places.push_back(hold(1, 1).front());
  bring(2, places);
  EXPECT_EQ(messages_of<CancelReply>(take(Cancel{2, places})).size(), 1u);
  EXPECT_EQ(pool_->state(places[0].index()), BlockState::kQuarantined);
  EXPECT_EQ(pool_->counts().quarantine.at(std::string(kAwaitingUnpin)), 1u);
  EXPECT_EQ(pool_->state(places[1].index()), BlockState::kFree);
  EXPECT_TRUE(pool_->unpin(kCallerSession, {&places[0], 1}).ok());
  EXPECT_EQ(pool_->count(BlockState::kFree), 8u);
}

TEST_F(TargetPlacesTest,
       places_of_a_transfer_past_its_time_are_quarantined_until_the_source_is_quiet) {
  auto places = filling(1);
  places.push_back(hold(1, 1).front());
  bring(2, places);
  machine_->on_time(at_ms(5000));
  EXPECT_EQ(messages_of<StopRequest>(machine_->take_actions()).size(), 1u);
  EXPECT_EQ(pool_->counts().quarantine.at("prefill"), 2u);
  ASSERT_TRUE(pool_->unpin(kCallerSession, {&places[0], 1}).ok());
  EXPECT_EQ(pool_->count(BlockState::kQuarantined), 2u);  // bytes may still land in it
  take(Cancel{2, places}, 5001);
  EXPECT_EQ(pool_->count(BlockState::kFree), 8u);
}

TEST_F(TargetPlacesTest, a_transfer_that_is_refused_for_now_leaves_its_places_held) {
  const auto places = hold(1, 3);
  const OfferReply first = bring(2, {places[0]});
  ASSERT_TRUE(bring(3, {places[1]}).status.ok());
  EXPECT_EQ(bring(4, {places[2]}).status.retry_after_ms(), options().retry_hint_ms);
  take(Cancel{2, {places[0]}});
  EXPECT_TRUE(bring(5, {places[2]}).status.ok());
}

TEST_F(TargetPlacesTest, a_refused_transfer_leaves_its_held_places_to_the_cancel) {
  const auto places = hold(1, 2);
  machine_->refuse_new();
  EXPECT_EQ(bring(2, places).status.code(), StatusCode::kUnavailable);
  EXPECT_EQ(pool_->count(BlockState::kReserved), 2u);
  take(Cancel{2, places});
  EXPECT_EQ(pool_->count(BlockState::kFree), 8u);
}

TEST_F(TargetPlacesTest, places_of_open_transfers_are_free_after_the_fence) {
  auto places = filling(1);
  places.push_back(hold(1, 1).front());
  bring(2, places);
  hold(3, 1);
  end_session();
  EXPECT_TRUE(pool_->unpin(kCallerSession, {&places[0], 1}).ok());
  EXPECT_EQ(pool_->count(BlockState::kFree), 8u);
}

TEST_F(TargetPlacesTest, a_goodbye_of_one_that_wrote_wrong_bytes_is_fenced) {
  const auto places = hold(1, 2);
  commit(bring(2, {places[0]}), {{0, 77}});
  machine_->on_verified(kSession, 2, {places[0].index()});
  machine_->take_actions();
  const auto actions = take(Goodbye{});
  EXPECT_TRUE(actions_of<CloseSession>(actions).empty());
  EXPECT_EQ(actions_of<FencePeer>(actions).size(), 1u);
  EXPECT_EQ(pool_->state(places[0].index()), BlockState::kQuarantined);
  machine_->on_fenced(kSession);
  EXPECT_EQ(pool_->count(BlockState::kFree), 8u);
}

// ---- what is refused ---------------------------------------------------------------------------

TEST_F(TargetPlacesTest, each_place_is_checked_before_anything_is_taken) {
  const auto held = hold(1, 2);
  const auto mine = filling(3);
  const auto tokens = tokens_up_to(4);
  ASSERT_TRUE(
      index_.insert(kCallerSession, {tiny_content(), tokens}, std::span(mine).first(1)).ok());
  ASSERT_TRUE(pool_->pin(kAgentSession, {&mine[1], 1}).ok());
  const BlockAddress good = held[0];
  BlockAddress foreign = good;
  foreign.incarnation = 99;
  BlockAddress stale = good;
  stale.generation -= 1;
  const auto never = BlockAddress::make(6, 1, Medium::kHost, 7);
  expect_refused({good, foreign}, StatusCode::kStale, "not of this life");
  expect_refused({good, stale}, StatusCode::kStale, "freed since");
  expect_refused({good, never}, StatusCode::kStale, "freed since");
  expect_refused({good, BlockAddress::make(6, 1, Medium::kHost, 8)}, StatusCode::kInvalidArgument,
                 "has 8 blocks");
  expect_refused({good, mine[0]}, StatusCode::kInvalidArgument, "published");
  expect_refused({good, mine[1]}, StatusCode::kInvalidArgument, "others pin it");
  expect_refused({good, held[1], good}, StatusCode::kInvalidArgument, "named twice");
  expect_refused({good, mine[2], mine[2]}, StatusCode::kInvalidArgument, "named twice");
  EXPECT_EQ(pool_->state(mine[2].index()), BlockState::kWriting);
  EXPECT_TRUE(bring(2, {good, mine[2]}).status.ok());                // nothing was taken before
  expect_refused({good}, StatusCode::kInvalidArgument, "reserved");  // and it is taken now
  expect_refused({mine[2]}, StatusCode::kInvalidArgument, "reserved");
}

TEST_F(TargetPlacesTest, what_is_held_for_another_peer_is_refused) {
  const PeerInfo other{"other", kSourceLife + 1, tiny_content().model, {}};
  ASSERT_TRUE(machine_->on_session_up(kSession + 1, other).ok());
  Offer asks = offer(1);
  asks.reserve = 1;
  machine_->on_message(kSession + 1, asks, at_ms(0));
  const auto theirs = messages_of<OfferReply>(machine_->take_actions()).at(0).reserved;
  expect_refused(theirs, StatusCode::kInvalidArgument, "reserved");
  take(Cancel{50, theirs});
  EXPECT_EQ(pool_->state(theirs[0].index()), BlockState::kReserved);
}

TEST_F(TargetPlacesTest, an_engine_cannot_publish_what_is_being_filled_by_a_peer) {
  const auto places = filling(1);
  const OfferReply reply = bring(1, places);
  const auto tokens = tokens_up_to(4);
  EXPECT_EQ(index_.insert(kCallerSession, {tiny_content(), tokens}, places).status().code(),
            StatusCode::kInvalidArgument);
  commit(reply);
  EXPECT_TRUE(index_.insert(kCallerSession, {tiny_content(), tokens}, places).ok());
}

}  // namespace
}  // namespace mempool
