// SPDX-License-Identifier: Apache-2.0
// Owns the proof of what a source does with blocks that peers hold for it, and with transfers to
// places.
#include <gtest/gtest.h>

#include "agent/source_machine.h"
#include "tests/agent/machine_parts.h"

namespace mempool {
namespace {

constexpr SessionId kSession = 9;
constexpr uint64_t kTargetLife = 77;
const std::string kPeer = "decode";

class SourcePlacesTest : public testing::Test {
 protected:
  SourcePlacesTest() : pool_(tiny_pool(5)), machine_(options(), *pool_) {
    EXPECT_TRUE(pool_->alloc(kCallerSession, 2, BlockState::kWriting, blocks_).ok());
    machine_.on_session_up(kPeer, kSession, peer(), at_ms(0));
  }
  static SourceMachine::Options options() {
    SourceMachine::Options options;
    options.max_open = 1;
    return options;
  }
  static PeerInfo peer() { return {kPeer, kTargetLife, tiny_content().model, {}}; }
  static BlockAddress there(uint32_t index, uint64_t life = kTargetLife) {
    return BlockAddress::make(life, 1, Medium::kHost, index);
  }
  static TransferRequest wish(uint32_t count, SessionId engine = kCallerSession) {
    TransferRequest request;
    request.content = tiny_content();
    request.reserve = count;
    request.engine = engine;
    request.deadline = at_ms(1000);
    return request;
  }
  TransferRequest move(std::vector<BlockAddress> places, SessionId engine = kCallerSession) const {
    TransferRequest request;
    request.content = tiny_content();
    request.blocks = {blocks_.begin(), blocks_.begin() + static_cast<long>(places.size())};
    request.places = std::move(places);
    request.engine = engine;
    request.deadline = at_ms(1000);
    return request;
  }
  /// Have the peer hold two blocks, 20 and 21.
  std::vector<BlockAddress> hold(SessionId engine = kCallerSession) {
    EXPECT_TRUE(machine_.start(kPeer, wish(2, engine), at_ms(0)).ok());
    const auto offers = messages_of<Offer>(machine_.take_actions());
    OfferReply reply;
    reply.number = offers.at(0).number;
    reply.reserved = {there(20), there(21)};
    machine_.on_message(kSession, reply, at_ms(1));
    const auto ends = actions_of<EndCall>(machine_.take_actions());
    EXPECT_TRUE(ends.at(0).status.ok());
    return ends.at(0).report.serving;
  }
  /// Have the peer refuse a transfer to a place, and give what follows.
  std::vector<Action> refuse(const BlockAddress& place, Status why) {
    EXPECT_TRUE(machine_.start(kPeer, move({place}), at_ms(2)).ok());
    OfferReply refusal;
    refusal.number = messages_of<Offer>(machine_.take_actions()).at(0).number;
    refusal.status = std::move(why);
    machine_.on_message(kSession, refusal, at_ms(3));
    return machine_.take_actions();
  }
  std::vector<Cancel> cancels() { return messages_of<Cancel>(machine_.take_actions()); }
  StatusCode release(const std::vector<BlockAddress>& blocks, SessionId engine = kCallerSession) {
    return machine_.release(engine, blocks, at_ms(2)).code();
  }

  std::unique_ptr<BlockPool> pool_;
  SourceMachine machine_;
  std::vector<BlockAddress> blocks_;
};

// ---- held blocks -------------------------------------------------------------------------------

TEST_F(SourcePlacesTest, blocks_are_asked_for_again_until_the_answer_ends_the_call_with_them) {
  const auto id = machine_.start(kPeer, wish(2), at_ms(0));
  ASSERT_TRUE(id.ok());
  const auto offers = messages_of<Offer>(machine_.take_actions());
  ASSERT_EQ(offers.size(), 1u);
  EXPECT_EQ(offers[0].reserve, 2u);
  EXPECT_TRUE(offers[0].tokens.empty());
  machine_.on_time(at_ms(200));
  EXPECT_EQ(messages_of<Offer>(machine_.take_actions()).at(0).number, offers[0].number);
  OfferReply reply;
  reply.number = offers[0].number;
  reply.reserved = {there(20), there(21)};
  machine_.on_message(kSession, reply, at_ms(201));
  const auto actions = machine_.take_actions();
  EXPECT_EQ(actions_of<EndCall>(actions).at(0).report.serving, reply.reserved);
  EXPECT_TRUE(actions_of<PostData>(actions).empty());
  EXPECT_EQ(machine_.open(), 0u);
  EXPECT_EQ(release(reply.reserved), StatusCode::kOk);
  EXPECT_EQ(cancels().at(0).release, reply.reserved);
}

TEST_F(SourcePlacesTest, an_answer_after_the_deadline_is_given_back_by_the_cancel) {
  ASSERT_TRUE(machine_.start(kPeer, wish(2), at_ms(0)).ok());
  const uint64_t number = messages_of<Offer>(machine_.take_actions()).at(0).number;
  machine_.on_time(at_ms(1000));
  const auto actions = machine_.take_actions();
  EXPECT_EQ(actions_of<EndCall>(actions).at(0).status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(messages_of<Cancel>(actions).at(0).number, number);
  OfferReply late;
  late.number = number;
  late.reserved = {there(20), there(21)};
  machine_.on_message(kSession, late, at_ms(1001));
  EXPECT_EQ(release(late.reserved), StatusCode::kStale);
  machine_.on_message(kSession, CancelReply{number}, at_ms(1002));
  EXPECT_EQ(machine_.open(), 0u);
}

TEST_F(SourcePlacesTest, an_answer_that_does_not_fit_is_given_back) {
  const auto held = hold(kFirstEngineSession);
  for (const std::vector<BlockAddress>& wrong :
       {std::vector{there(30)}, std::vector{there(30), there(31, 78)},
        std::vector{there(30), there(30)}, std::vector{there(30), held[0]}}) {
    ASSERT_TRUE(machine_.start(kPeer, wish(2), at_ms(0)).ok());
    OfferReply reply;
    reply.number = messages_of<Offer>(machine_.take_actions()).at(0).number;
    reply.reserved = wrong;
    machine_.on_message(kSession, reply, at_ms(1));
    const auto actions = machine_.take_actions();
    EXPECT_EQ(actions_of<EndCall>(actions).at(0).status.code(), StatusCode::kCorruption);
    EXPECT_EQ(messages_of<Cancel>(actions).at(0).number, reply.number);
    EXPECT_EQ(release({there(30)}), StatusCode::kStale);
    machine_.on_message(kSession, CancelReply{reply.number}, at_ms(2));
  }
  EXPECT_EQ(release(held, kFirstEngineSession), StatusCode::kOk);
}

TEST_F(SourcePlacesTest, a_request_to_hold_that_names_blocks_is_refused_and_pins_none) {
  TransferRequest rude = wish(1);
  rude.blocks = blocks_;
  EXPECT_EQ(machine_.start(kPeer, rude, at_ms(0)).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(machine_.open(), 0u);
  EXPECT_EQ(pool_->pins_of(kAgentSession, blocks_[0].index()), 0u);
}

TEST_F(SourcePlacesTest, a_refusal_comes_with_its_hint) {
  ASSERT_TRUE(machine_.start(kPeer, wish(2), at_ms(0)).ok());
  OfferReply reply;
  reply.number = messages_of<Offer>(machine_.take_actions()).at(0).number;
  reply.status = resource_exhausted("full", 10);
  machine_.on_message(kSession, reply, at_ms(1));
  const auto actions = machine_.take_actions();
  EXPECT_EQ(actions_of<EndCall>(actions).at(0).status.retry_after_ms(), 10u);
  EXPECT_TRUE(messages_of<Cancel>(actions).empty());  // nothing is held
  EXPECT_EQ(machine_.open(), 0u);
}

TEST_F(SourcePlacesTest, what_is_given_back_is_said_until_the_peer_has_heard_it) {
  const auto held = hold();
  EXPECT_EQ(release(held), StatusCode::kOk);
  const auto told = cancels();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].release, held);
  machine_.on_time(at_ms(202));
  EXPECT_EQ(cancels().at(0).release, held);
  machine_.on_message(kSession, CancelReply{told[0].number}, at_ms(203));
  EXPECT_EQ(machine_.open(), 0u);
  EXPECT_EQ(machine_.next_time(), TimePoint::max());
}

TEST_F(SourcePlacesTest, what_is_given_back_takes_no_call_its_place) {
  const auto held = hold();
  EXPECT_EQ(release({held[0]}), StatusCode::kOk);
  EXPECT_EQ(release({held[1]}), StatusCode::kOk);
  const auto told = cancels();
  ASSERT_EQ(machine_.open(), 2u);  // nobody has heard of them, and the most is one
  EXPECT_TRUE(machine_.start(kPeer, move({there(5)}), at_ms(3)).ok());
  EXPECT_EQ(machine_.start(kPeer, move({there(6)}), at_ms(3)).status().code(),
            StatusCode::kResourceExhausted);
  for (const Cancel& cancel : told) {
    machine_.on_message(kSession, CancelReply{cancel.number}, at_ms(4));
  }
  EXPECT_EQ(machine_.open(), 1u);
  EXPECT_EQ(machine_.start(kPeer, move({there(6)}), at_ms(5)).status().code(),
            StatusCode::kResourceExhausted);
}

TEST_F(SourcePlacesTest, only_what_is_held_for_the_caller_can_be_given_back_once) {
  const auto held = hold();
  EXPECT_EQ(release(held, kFirstEngineSession), StatusCode::kStale);
  EXPECT_EQ(release({held[0], there(22)}), StatusCode::kStale);
  EXPECT_EQ(release({held[0], there(20, 78)}), StatusCode::kInvalidArgument);
  EXPECT_EQ(release({held[0], held[0]}), StatusCode::kInvalidArgument);
  EXPECT_TRUE(cancels().empty());
  EXPECT_EQ(release({held[0]}), StatusCode::kOk);
  EXPECT_EQ(release({held[0]}), StatusCode::kStale);
  EXPECT_EQ(release({held[1]}), StatusCode::kOk);
}

TEST_F(SourcePlacesTest, an_engine_that_ends_gives_back_what_was_held_for_it_alone) {
  const auto theirs = hold(kFirstEngineSession);
  machine_.release_all(kCallerSession, at_ms(2));
  EXPECT_TRUE(cancels().empty());
  machine_.release_all(kFirstEngineSession, at_ms(2));
  EXPECT_EQ(cancels().at(0).release, theirs);
  EXPECT_EQ(release(theirs, kFirstEngineSession), StatusCode::kStale);
}

TEST_F(SourcePlacesTest, what_is_held_is_forgotten_with_the_session) {
  const auto held = hold();
  machine_.on_session_down(kSession, unavailable("gone"), at_ms(2));
  EXPECT_EQ(release(held), StatusCode::kStale);
}

// ---- transfers ---------------------------------------------------------------------------------

TEST_F(SourcePlacesTest, a_transfer_goes_to_its_places_in_their_order_and_takes_them_over) {
  const auto held = hold();
  const std::vector places = {held[1], there(5)};  // the second is an engine's there
  const auto id = machine_.start(kPeer, move(places), at_ms(2));
  ASSERT_TRUE(id.ok()) << id.status().to_string();
  EXPECT_EQ(release({held[1]}), StatusCode::kStale);
  const auto offers = messages_of<Offer>(machine_.take_actions());
  EXPECT_EQ(offers.at(0).places, places);
  OfferReply reply;
  reply.number = offers[0].number;
  reply.slot = {1, 1};
  reply.reserved = places;
  machine_.on_message(kSession, reply, at_ms(3));
  const auto posts = actions_of<PostData>(machine_.take_actions());
  EXPECT_EQ(posts.at(0).remote_blocks, (std::vector<uint32_t>{21, 5}));
  machine_.on_data_done(*id, Status(), {.lanes = 1}, at_ms(4));
  machine_.take_actions();
  machine_.on_message(kSession, CommitReply{reply.number, {}, places}, at_ms(5));
  const auto ends = actions_of<EndCall>(machine_.take_actions());
  EXPECT_TRUE(ends.at(0).status.ok());
  EXPECT_EQ(ends.at(0).report.serving, places);
  EXPECT_EQ(ends.at(0).report.tokens, 0u);
  EXPECT_EQ(pool_->pins_of(kAgentSession, blocks_[0].index()), 0u);
}

TEST_F(SourcePlacesTest, a_transfer_that_is_refused_for_now_leaves_its_held_places_to_the_caller) {
  const auto held = hold();
  for (const BlockAddress& place : {held[0], there(5)}) {  // the second is an engine's there
    const auto actions = refuse(place, resource_exhausted("no slot", 10));
    EXPECT_EQ(actions_of<EndCall>(actions).at(0).status.retry_after_ms(), 10u);
    EXPECT_TRUE(messages_of<Cancel>(actions).empty());
    EXPECT_EQ(pool_->pins_of(kAgentSession, blocks_[0].index()), 0u);
  }
  EXPECT_EQ(machine_.open(), 0u);
  EXPECT_EQ(release({there(5)}), StatusCode::kStale);
  EXPECT_EQ(release({held[0]}, kFirstEngineSession), StatusCode::kStale);
  EXPECT_TRUE(machine_.start(kPeer, move({held[0]}), at_ms(4)).ok());  // asked again
  EXPECT_EQ(release({held[0]}), StatusCode::kStale);
  EXPECT_EQ(release({held[1]}), StatusCode::kOk);
}

TEST_F(SourcePlacesTest, a_transfer_that_is_refused_for_good_or_cancelled_gives_its_places_back) {
  const auto held = hold();
  auto actions = refuse(held[0], stale("another place is"));
  EXPECT_EQ(actions_of<EndCall>(actions).at(0).status.code(), StatusCode::kStale);
  const Cancel cancel = messages_of<Cancel>(actions).at(0);
  EXPECT_EQ(cancel.release, std::vector{held[0]});
  machine_.on_message(kSession, CancelReply{cancel.number}, at_ms(4));

  const auto id = machine_.start(kPeer, move({held[1]}), at_ms(4));
  machine_.cancel(*id, at_ms(5));
  actions = machine_.take_actions();
  EXPECT_EQ(actions_of<EndCall>(actions).at(0).status.code(), StatusCode::kCancelled);
  EXPECT_EQ(messages_of<Cancel>(actions).at(0).release, std::vector{held[1]});
}

TEST_F(SourcePlacesTest, what_fails_at_once_leaves_the_places_held) {
  const auto held = hold();
  TransferRequest stale = move({held[0]});
  stale.blocks[0].generation += 1;
  EXPECT_EQ(machine_.start(kPeer, stale, at_ms(2)).status().code(), StatusCode::kStale);
  const auto twice = machine_.start(kPeer, move({held[0], held[0]}), at_ms(2));
  EXPECT_EQ(twice.status().code(), StatusCode::kInvalidArgument);
  const auto theirs = machine_.start(kPeer, move({held[0]}, kFirstEngineSession), at_ms(2));
  EXPECT_EQ(theirs.status().code(), StatusCode::kInvalidArgument);
  const auto elsewhere = machine_.start("other", move({held[0]}), at_ms(2));
  EXPECT_EQ(elsewhere.status().code(), StatusCode::kInvalidArgument);
  const PeerInfo other{"other", kTargetLife + 1, tiny_content().model, {}};
  machine_.on_session_up("other", kSession + 1, other, at_ms(2));
  const auto of_another = machine_.start("other", move({held[0]}), at_ms(2)).status();
  EXPECT_NE(of_another.message().find("is held at 'decode', not at 'other'"),
            std::string_view::npos);
  EXPECT_EQ(machine_.open(), 0u);
  EXPECT_EQ(release(held), StatusCode::kOk);
}

TEST_F(SourcePlacesTest, an_answer_with_other_places_ends_the_transfer) {
  const auto held = hold();
  ASSERT_TRUE(machine_.start(kPeer, move({held[0]}), at_ms(2)).ok());
  OfferReply reply;
  reply.number = messages_of<Offer>(machine_.take_actions()).at(0).number;
  reply.reserved = {held[1]};
  machine_.on_message(kSession, reply, at_ms(3));
  const auto actions = machine_.take_actions();
  EXPECT_EQ(actions_of<EndCall>(actions).at(0).status.code(), StatusCode::kCorruption);
  EXPECT_TRUE(actions_of<PostData>(actions).empty());
}

}  // namespace
}  // namespace mempool
