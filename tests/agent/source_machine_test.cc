// SPDX-License-Identifier: Apache-2.0
// Owns the proof of the source's half of the protocol, step by step.
#include "agent/source_machine.h"

#include <gtest/gtest.h>

#include "tests/agent/machine_parts.h"

namespace mempool {
namespace {

constexpr SessionId kSession = 9;
constexpr uint64_t kTargetLife = 77;
const std::string kPeer = "decode";

class SourceMachineTest : public testing::Test {
 protected:
  SourceMachineTest() : pool_(tiny_pool(5)), machine_(options(), *pool_) {
    EXPECT_TRUE(pool_->alloc(kCallerSession, 3, BlockState::kWriting, blocks_).ok());
  }

  static SourceMachine::Options options() {
    SourceMachine::Options options;
    options.max_open = 2;
    options.retry_hint_ms = 25;
    options.retransmit = std::chrono::milliseconds(200);
    options.stop_grace = std::chrono::milliseconds(100);
    return options;
  }

  /// A prompt of two blocks and a half, to be there within a second.
  TransferRequest request() const {
    TransferRequest request;
    request.content = tiny_content();
    request.tokens = tokens_up_to(10);
    request.blocks = blocks_;
    request.request_id = 42;
    request.deadline = at_ms(1000);
    return request;
  }

  static PeerInfo peer(uint64_t incarnation = kTargetLife) {
    return {kPeer, incarnation, tiny_content().model, {}};
  }

  static OfferReply reply(uint64_t number, uint32_t matched, uint32_t reserved) {
    OfferReply reply;
    reply.number = number;
    reply.slot = {1, 1};
    for (uint32_t i = 0; i < matched + reserved; ++i) {
      auto& list = i < matched ? reply.matched : reply.reserved;
      list.push_back(BlockAddress::make(kTargetLife, 1, Medium::kHost, 20 + i));
    }
    return reply;
  }

  static CommitReply acknowledgement(uint32_t serving, uint64_t life = kTargetLife) {
    CommitReply reply{1, {}, {}};
    for (uint32_t i = 0; i < serving; ++i) {
      reply.serving.push_back(BlockAddress::make(life, 1, Medium::kHost, 20 + i));
    }
    return reply;
  }

  TransferId start(TimePoint now = at_ms(0)) {
    const auto started = machine_.start(kPeer, request(), now);
    EXPECT_TRUE(started.ok()) << started.status().to_string();
    return *started;
  }

  /// Acknowledge a transfer whose data has landed, and give how its call ended.
  EndCall end_by(const CommitReply& reply) {
    machine_.on_data_done(start_sending(), Status(), {}, at_ms(1));
    machine_.take_actions();
    machine_.on_message(kSession, reply, at_ms(2));
    const auto ends = actions_of<EndCall>(machine_.take_actions());
    EXPECT_EQ(ends.size(), 1u);
    EXPECT_EQ(transfer_pins(), 0u);
    EXPECT_EQ(machine_.open(), 0u);
    return ends.empty() ? EndCall{} : ends[0];
  }

  /// Bring a fetch of three blocks, one with a sum, to where its bytes are here.
  TransferId fetch_three_blocks() {
    TransferRequest fetch = request();
    fetch.tokens = tokens_up_to(12);
    fetch.fetch = true;
    const TransferId id = *machine_.start(kPeer, fetch, at_ms(0));
    PeerInfo holder = peer();
    holder.segments = {{0, 0, 8, pool_->segments().all().front()->layout}};
    machine_.on_session_up(kPeer, kSession, holder, at_ms(0));
    OfferReply leased = reply(1, 3, 0);
    leased.sums = {{1, 9}};
    machine_.on_message(kSession, leased, at_ms(1));
    machine_.on_data_done(id, Status(), {}, at_ms(2));
    return id;
  }

  /// Bring a transfer to where its data is on the way.
  TransferId start_sending() {
    const TransferId id = start();
    machine_.on_session_up(kPeer, kSession, peer(), at_ms(0));
    machine_.on_message(kSession, reply(1, 0, 3), at_ms(0));
    machine_.take_actions();
    return id;
  }

  std::vector<Action> at(int64_t milliseconds) {
    machine_.on_time(at_ms(milliseconds));
    return machine_.take_actions();
  }
  uint32_t transfer_pins() const { return pool_->pins_of(kAgentSession, blocks_[0].index()); }

  std::unique_ptr<BlockPool> pool_;
  std::vector<BlockAddress> blocks_;
  SourceMachine machine_;
};

StatusCode only_end(const std::vector<Action>& actions) {
  const auto ends = actions_of<EndCall>(actions);
  EXPECT_EQ(ends.size(), 1u);
  return ends.empty() ? StatusCode::kOk : ends[0].status.code();
}

TEST_F(SourceMachineTest, refusing_starts_nothing_and_lets_open_transfers_end) {
  const TransferId id = start_sending();
  machine_.refuse_new();
  const auto late = machine_.start(kPeer, request(), at_ms(1));
  EXPECT_EQ(late.status().code(), StatusCode::kUnavailable);
  EXPECT_NE(late.status().message().find("draining"), std::string_view::npos);
  EXPECT_EQ(machine_.open(), 1u);

  machine_.on_data_done(id, Status(), {}, at_ms(2));
  machine_.take_actions();
  machine_.on_message(kSession, acknowledgement(2), at_ms(3));
  EXPECT_EQ(only_end(machine_.take_actions()), StatusCode::kOk);
  EXPECT_EQ(machine_.open(), 0u);
}

TEST_F(SourceMachineTest, a_transfer_goes_from_the_dial_to_its_acknowledgement) {
  const TransferId id = start();
  EXPECT_EQ(actions_of<DialPeer>(machine_.take_actions()).at(0).peer, kPeer);

  machine_.on_session_up(kPeer, kSession, peer(), at_ms(1));
  const Offer offer = messages_of<Offer>(machine_.take_actions()).at(0);
  EXPECT_EQ(offer.number, 1u);
  EXPECT_EQ(offer.request_id, 42u);
  EXPECT_EQ(offer.deadline_ms, 999u);
  EXPECT_EQ(offer.tokens, tokens_up_to(10));

  machine_.on_message(kSession, reply(1, 1, 2), at_ms(2));
  const PostData data = actions_of<PostData>(machine_.take_actions()).at(0);
  EXPECT_EQ(data.local_blocks, (std::vector<uint32_t>{blocks_[1].index(), blocks_[2].index()}));
  EXPECT_EQ(data.remote_blocks, (std::vector<uint32_t>{21, 22}));

  DataReport report;
  report.lanes = 3;
  machine_.on_data_done(id, Status(), report, at_ms(3));
  EXPECT_EQ(messages_of<Commit>(machine_.take_actions()).at(0).notifications, 3u);
  EXPECT_EQ(transfer_pins(), 1u);

  const CommitReply acknowledged = acknowledgement(3);
  machine_.on_message(kSession, acknowledged, at_ms(4));
  const auto end = actions_of<EndCall>(machine_.take_actions()).at(0);
  EXPECT_TRUE(end.status.ok());
  EXPECT_EQ(end.report.tokens_matched, 4u);
  EXPECT_EQ(end.report.serving, acknowledged.serving);
  EXPECT_EQ(transfer_pins(), 0u);
  EXPECT_EQ(machine_.open(), 0u);
}

TEST_F(SourceMachineTest, what_is_there_already_is_committed_without_data) {
  ASSERT_TRUE(pool_->free(kCallerSession, {&blocks_[2], 1}).ok());
  blocks_.pop_back();
  TransferRequest whole = request();
  whole.tokens = tokens_up_to(8);
  whole.sums = {{0, 11}, {1, 12}};
  ASSERT_TRUE(machine_.start(kPeer, whole, at_ms(0)).ok());
  machine_.on_session_up(kPeer, kSession, peer(), at_ms(0));
  machine_.take_actions();
  machine_.on_message(kSession, reply(1, 2, 0), at_ms(1));
  const auto actions = machine_.take_actions();
  EXPECT_TRUE(actions_of<PostData>(actions).empty());
  EXPECT_TRUE(messages_of<Commit>(actions).at(0).sums.empty());
}

// ---- by layer --------------------------------------------------------------------------------

TEST_F(SourceMachineTest, layers_are_posted_as_they_are_ready_and_finished_by_the_commit) {
  TransferRequest by_layer = request();
  by_layer.by_layer = true;
  const TransferId id = *machine_.start(kPeer, by_layer, at_ms(0));
  ASSERT_TRUE(machine_.hand_over(id, {1, 1}).ok());
  machine_.on_layers_ready(id, {1, 1});  // before there is a session
  machine_.on_session_up(kPeer, kSession, peer(), at_ms(0));
  machine_.take_actions();
  machine_.on_message(kSession, reply(1, 1, 2), at_ms(1));
  auto actions = machine_.take_actions();
  EXPECT_EQ(actions_of<PostData>(actions).size(), 1u);
  EXPECT_EQ(actions_of<PostLayers>(actions).at(0).layers, (LayerRange{1, 1}));
  EXPECT_TRUE(actions_of<FinishData>(actions).empty());
  ASSERT_TRUE(machine_.hand_over(id, {0, 1}).ok());
  EXPECT_TRUE(machine_.take_actions().empty());  // handed over, not ready
  machine_.on_layers_ready(id, {0, 1});
  EXPECT_EQ(actions_of<PostLayers>(machine_.take_actions()).at(0).layers, (LayerRange{0, 1}));
  ASSERT_TRUE(machine_.check_commit(id).ok());
  machine_.commit(id, {{2, 7}}, at_ms(2));
  EXPECT_EQ(actions_of<FinishData>(machine_.take_actions()).size(), 1u);
  machine_.on_data_done(id, Status(), {}, at_ms(3));
  EXPECT_EQ(messages_of<Commit>(machine_.take_actions()).at(0).sums.at(0).checksum, 7u);
}

TEST_F(SourceMachineTest, what_the_target_has_waits_for_the_commit_and_ends_like_any_other) {
  for (const bool lost : {false, true}) {
    SourceMachine machine(options(), *pool_);
    TransferRequest by_layer = request();
    by_layer.tokens = tokens_up_to(12);
    by_layer.by_layer = true;
    const TransferId id = *machine.start(kPeer, by_layer, at_ms(0));
    machine.on_session_up(kPeer, kSession, peer(), at_ms(0));
    machine.on_message(kSession, reply(1, 3, 0), at_ms(1));
    EXPECT_TRUE(messages_of<Commit>(machine.take_actions()).empty());
    if (lost) {
      machine.on_session_down(kSession, unavailable("gone"), at_ms(2));
    } else {
      machine.cancel(id, at_ms(2));
    }
    const auto actions = machine.take_actions();
    EXPECT_EQ(actions_of<EndCall>(actions).size(), 1u);
    EXPECT_EQ(messages_of<Cancel>(actions).size(), lost ? 0u : 1u);
    EXPECT_EQ(transfer_pins(), 0u);
  }
}

// ---- fetch -----------------------------------------------------------------------------------

TEST_F(SourceMachineTest, a_fetch_reads_what_is_leased_and_gives_the_lease_back) {
  TransferRequest fetch = request();
  fetch.tokens = tokens_up_to(16);
  fetch.fetch = true;
  fetch.have = 1;
  const TransferId id = *machine_.start(kPeer, fetch, at_ms(0));
  PeerInfo holder = peer();
  holder.segments = {{0, 0, 8, pool_->segments().all().front()->layout}};
  machine_.on_session_up(kPeer, kSession, holder, at_ms(0));
  EXPECT_TRUE(messages_of<Offer>(machine_.take_actions()).at(0).fetch);
  OfferReply leased = reply(1, 3, 0);
  leased.sums = {{0, 1}, {2, 9}};
  machine_.on_message(kSession, leased, at_ms(1));
  const auto actions = machine_.take_actions();
  const PostData data = actions_of<PostData>(actions).at(0);
  EXPECT_EQ(data.operation, Operation::kRead);
  EXPECT_EQ(data.local_blocks, (std::vector<uint32_t>{blocks_[0].index(), blocks_[1].index()}));
  EXPECT_EQ(data.remote_blocks, (std::vector<uint32_t>{21, 22}));
  machine_.on_data_done(id, Status(), {}, at_ms(2));
  const auto verify = actions_of<VerifyFetch>(machine_.take_actions()).at(0);
  EXPECT_EQ(verify.blocks, std::vector<uint32_t>{blocks_[1].index()});
  EXPECT_EQ(verify.sums, std::vector<uint64_t>{9});
  EXPECT_EQ(transfer_pins(), 1u);
  machine_.on_fetch_verified(id, {}, at_ms(3));
  const auto last = machine_.take_actions();
  EXPECT_EQ(actions_of<EndCall>(last).at(0).fetched, 2u);
  EXPECT_EQ(messages_of<Cancel>(last).size(), 1u);
  EXPECT_EQ(transfer_pins(), 0u);
  machine_.on_message(kSession, CancelReply{1}, at_ms(4));
  EXPECT_EQ(machine_.open(), 0u);
}

TEST_F(SourceMachineTest, a_fetch_whose_bytes_are_wrong_brings_nothing) {
  const TransferId id = fetch_three_blocks();
  machine_.take_actions();
  machine_.on_fetch_verified(id, {blocks_[1].index()}, at_ms(3));
  const EndCall end = actions_of<EndCall>(machine_.take_actions()).at(0);
  EXPECT_EQ(end.status.code(), StatusCode::kCorruption);
  EXPECT_EQ(end.fetched, 0u);
}

TEST_F(SourceMachineTest,
       a_fetch_cancelled_while_it_is_looked_at_keeps_its_places_until_that_ends) {
  const TransferId id = fetch_three_blocks();
  machine_.cancel(id, at_ms(3));
  EXPECT_EQ(transfer_pins(), 1u);
  machine_.take_actions();
  machine_.on_fetch_verified(id, {}, at_ms(4));
  EXPECT_EQ(actions_of<EndCall>(machine_.take_actions()).at(0).status.code(),
            StatusCode::kCancelled);
  EXPECT_EQ(transfer_pins(), 0u);
}

TEST_F(SourceMachineTest, a_lease_of_other_blocks_than_asked_for_is_refused) {
  for (const bool reserved : {false, true}) {
    SourceMachine machine(options(), *pool_);
    TransferRequest fetch = request();
    fetch.tokens = tokens_up_to(12);
    fetch.fetch = true;
    ASSERT_TRUE(machine.start(kPeer, fetch, at_ms(0)).ok());
    machine.on_session_up(kPeer, kSession, peer(), at_ms(0));
    machine.on_message(kSession, reserved ? reply(1, 2, 1) : reply(1, 4, 0), at_ms(1));
    EXPECT_EQ(actions_of<EndCall>(machine.take_actions()).at(0).status.code(),
              StatusCode::kCorruption);
  }
}

TEST_F(SourceMachineTest, a_freed_block_cannot_be_sent) {
  ASSERT_TRUE(pool_->free(kCallerSession, blocks_).ok());
  EXPECT_EQ(machine_.start(kPeer, request(), at_ms(0)).status().code(), StatusCode::kStale);
  EXPECT_EQ(machine_.open(), 0u);
}

TEST_F(SourceMachineTest, a_full_machine_refuses_at_once) {
  start();
  start();
  const Status refused = machine_.start(kPeer, request(), at_ms(0)).status();
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(refused.retry_after_ms(), 25u);
}

TEST_F(SourceMachineTest, a_peer_of_another_content_is_not_offered_anything) {
  start();
  PeerInfo other = peer();
  other.model.words[0] ^= 1;
  machine_.take_actions();
  machine_.on_session_up(kPeer, kSession, other, at_ms(1));
  const auto actions = machine_.take_actions();
  EXPECT_EQ(only_end(actions), StatusCode::kInvalidArgument);
  EXPECT_TRUE(actions_of<SendMessage>(actions).empty());
  EXPECT_EQ(machine_.open(), 0u);
}

TEST_F(SourceMachineTest, a_failed_dial_ends_whoever_waited_for_it) {
  start();
  start();
  EXPECT_EQ(actions_of<DialPeer>(machine_.take_actions()).size(), 1u);
  machine_.on_dial_failed(kPeer, unavailable("nobody there"), at_ms(1));
  EXPECT_EQ(actions_of<EndCall>(machine_.take_actions()).size(), 2u);
  start();
  EXPECT_EQ(actions_of<DialPeer>(machine_.take_actions()).size(), 1u);
}

TEST_F(SourceMachineTest, an_unanswered_offer_is_asked_again) {
  start();
  machine_.on_session_up(kPeer, kSession, peer(), at_ms(0));
  EXPECT_EQ(messages_of<Offer>(machine_.take_actions()).size(), 1u);
  EXPECT_EQ(machine_.next_time(), at_ms(200));
  EXPECT_TRUE(at(199).empty());
  const auto again = messages_of<Offer>(at(200));
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].number, 1u);
  EXPECT_EQ(again[0].deadline_ms, 800u);
}

TEST_F(SourceMachineTest, an_unanswered_commit_is_said_again) {
  const TransferId id = start_sending();
  machine_.on_data_done(id, Status(), {}, at_ms(100));
  EXPECT_EQ(messages_of<Commit>(machine_.take_actions()).size(), 1u);
  EXPECT_TRUE(at(299).empty());
  EXPECT_EQ(messages_of<Commit>(at(300)).size(), 1u);
  EXPECT_EQ(messages_of<Commit>(at(500)).size(), 1u);
}

TEST_F(SourceMachineTest, an_answer_that_comes_twice_posts_once) {
  start_sending();
  machine_.on_message(kSession, reply(1, 0, 3), at_ms(1));
  EXPECT_TRUE(machine_.take_actions().empty());
}

TEST_F(SourceMachineTest, a_refusal_ends_the_call_with_its_hint) {
  start();
  machine_.on_session_up(kPeer, kSession, peer(), at_ms(0));
  machine_.take_actions();
  OfferReply refusal;
  refusal.number = 1;
  refusal.status = resource_exhausted("full", 10);
  machine_.on_message(kSession, refusal, at_ms(1));
  const auto ends = actions_of<EndCall>(machine_.take_actions());
  EXPECT_EQ(ends.at(0).status.retry_after_ms(), 10u);
  EXPECT_EQ(transfer_pins(), 0u);
  EXPECT_EQ(machine_.open(), 0u);
}

TEST_F(SourceMachineTest, places_of_another_life_of_the_target_are_not_written) {
  start();
  machine_.on_session_up(kPeer, kSession, peer(), at_ms(0));
  machine_.take_actions();
  OfferReply wrong = reply(1, 0, 3);
  wrong.reserved[2].incarnation ^= 1;
  machine_.on_message(kSession, wrong, at_ms(1));
  const auto actions = machine_.take_actions();
  EXPECT_EQ(only_end(actions), StatusCode::kStale);
  EXPECT_TRUE(actions_of<PostData>(actions).empty());
  EXPECT_EQ(messages_of<Cancel>(actions).size(), 1u);
}

TEST_F(SourceMachineTest, an_answer_that_does_not_add_up_is_corruption) {
  for (const auto& wrong : {reply(1, 0, 2), reply(1, 3, 0), reply(1, 1, 3)}) {
    SourceMachine machine(options(), *pool_);
    ASSERT_TRUE(machine.start(kPeer, request(), at_ms(0)).ok());
    machine.on_session_up(kPeer, kSession, peer(), at_ms(0));
    machine.take_actions();
    machine.on_message(kSession, wrong, at_ms(1));
    const auto actions = machine.take_actions();
    EXPECT_EQ(only_end(actions), StatusCode::kCorruption);
    EXPECT_TRUE(actions_of<PostData>(actions).empty());
  }
}

TEST_F(SourceMachineTest, an_acknowledgement_that_does_not_add_up_is_an_error_that_says_so) {
  const EndCall end = end_by(acknowledgement(1));
  EXPECT_EQ(end.status.code(), StatusCode::kInternal);
  EXPECT_NE(end.status.message().find("3 blocks with 1 addresses"), std::string_view::npos);
  EXPECT_TRUE(end.report.serving.empty());
}

TEST_F(SourceMachineTest, an_acknowledgement_with_more_addresses_than_blocks_is_an_error) {
  EXPECT_EQ(end_by(acknowledgement(4)).status.code(), StatusCode::kInternal);
}

TEST_F(SourceMachineTest, an_acknowledgement_of_another_life_of_the_target_is_stale) {
  const EndCall end = end_by(acknowledgement(3, kTargetLife + 1));
  EXPECT_EQ(end.status.code(), StatusCode::kStale);
  EXPECT_TRUE(end.report.serving.empty());
}

TEST_F(SourceMachineTest, an_acknowledgement_may_leave_out_the_tail) {
  EXPECT_TRUE(end_by(acknowledgement(2)).status.ok());
}

TEST_F(SourceMachineTest, an_acknowledgement_may_have_let_go_of_its_addresses) {
  EXPECT_TRUE(end_by(acknowledgement(0)).status.ok());
}

TEST_F(SourceMachineTest, the_deadline_stops_the_data_and_cancels_when_it_is_quiet) {
  const TransferId id = start_sending();
  const auto stopping = at(1000);
  EXPECT_EQ(actions_of<StopData>(stopping).size(), 1u);
  EXPECT_TRUE(messages_of<Cancel>(stopping).empty());
  EXPECT_TRUE(actions_of<EndCall>(stopping).empty());
  EXPECT_EQ(transfer_pins(), 1u);

  machine_.on_data_done(id, cancelled("stopped"), {}, at_ms(1050));
  const auto quiet = machine_.take_actions();
  EXPECT_EQ(only_end(quiet), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(messages_of<Cancel>(quiet).size(), 1u);
  EXPECT_EQ(transfer_pins(), 0u);
}

TEST_F(SourceMachineTest, a_call_ends_by_its_grace_while_its_blocks_wait_for_quiet) {
  const TransferId id = start_sending();
  at(1000);
  EXPECT_EQ(machine_.next_time(), at_ms(1100));
  const auto ended = at(1100);
  EXPECT_EQ(only_end(ended), StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(messages_of<Cancel>(ended).empty());
  EXPECT_EQ(transfer_pins(), 1u);

  machine_.on_data_done(id, cancelled("stopped"), {}, at_ms(5000));
  const auto quiet = machine_.take_actions();
  EXPECT_TRUE(actions_of<EndCall>(quiet).empty());
  EXPECT_EQ(messages_of<Cancel>(quiet).size(), 1u);
  EXPECT_EQ(transfer_pins(), 0u);
}

TEST_F(SourceMachineTest, a_cancel_is_said_until_it_is_heard) {
  const TransferId id = start();
  machine_.on_session_up(kPeer, kSession, peer(), at_ms(0));
  machine_.take_actions();
  machine_.cancel(id, at_ms(10));
  const auto actions = machine_.take_actions();
  EXPECT_EQ(only_end(actions), StatusCode::kCancelled);
  EXPECT_EQ(messages_of<Cancel>(actions).at(0).number, 1u);
  EXPECT_EQ(messages_of<Cancel>(at(210)).size(), 1u);
  EXPECT_EQ(machine_.open(), 1u);
  machine_.on_message(kSession, CancelReply{1}, at_ms(220));
  EXPECT_EQ(machine_.open(), 0u);
  machine_.cancel(id, at_ms(230));
  EXPECT_TRUE(machine_.take_actions().empty());
}

TEST_F(SourceMachineTest, data_that_fails_ends_the_call_with_its_reason) {
  const TransferId id = start_sending();
  machine_.on_data_done(id, unsupported("the layouts do not map"), {}, at_ms(1));
  const auto actions = machine_.take_actions();
  EXPECT_EQ(only_end(actions), StatusCode::kUnsupported);
  EXPECT_EQ(messages_of<Cancel>(actions).size(), 1u);
  EXPECT_TRUE(messages_of<Commit>(actions).empty());
}

TEST_F(SourceMachineTest, asked_to_stop_it_says_cancel_only_when_nothing_is_in_flight) {
  const TransferId id = start_sending();
  machine_.on_message(kSession, StopRequest{1}, at_ms(1));
  const auto stopping = machine_.take_actions();
  EXPECT_EQ(actions_of<StopData>(stopping).size(), 1u);
  EXPECT_TRUE(messages_of<Cancel>(stopping).empty());
  machine_.on_message(kSession, StopRequest{1}, at_ms(2));
  EXPECT_TRUE(machine_.take_actions().empty());
  machine_.on_data_done(id, cancelled("stopped"), {}, at_ms(3));
  EXPECT_EQ(messages_of<Cancel>(machine_.take_actions()).size(), 1u);
}

TEST_F(SourceMachineTest, asked_to_stop_what_is_over_it_says_cancel_at_once) {
  machine_.on_message(kSession, StopRequest{17}, at_ms(1));
  EXPECT_EQ(messages_of<Cancel>(machine_.take_actions()).at(0).number, 17u);
}

TEST_F(SourceMachineTest, a_lost_session_ends_its_calls_and_keeps_what_is_being_read) {
  const TransferId id = start_sending();
  machine_.on_session_down(kSession, unavailable("gone"), at_ms(1));
  EXPECT_EQ(actions_of<StopData>(machine_.take_actions()).size(), 1u);
  EXPECT_EQ(transfer_pins(), 1u);
  machine_.on_data_done(id, unavailable("gone"), {}, at_ms(2));
  const auto actions = machine_.take_actions();
  EXPECT_EQ(only_end(actions), StatusCode::kUnavailable);
  EXPECT_TRUE(actions_of<SendMessage>(actions).empty());
  EXPECT_EQ(transfer_pins(), 0u);
  EXPECT_EQ(machine_.open(), 0u);
}

TEST_F(SourceMachineTest, numbers_never_begin_again_whoever_answers_to_the_name) {
  const auto first_number = [this](SessionId session, uint64_t life) {
    const TransferId id = start();
    machine_.on_session_up(kPeer, session, peer(life), at_ms(0));
    const uint64_t number = messages_of<Offer>(machine_.take_actions()).at(0).number;
    machine_.cancel(id, at_ms(0));
    machine_.on_session_down(session, unavailable("gone"), at_ms(0));
    machine_.take_actions();
    return number;
  };
  EXPECT_EQ(first_number(10, kTargetLife), 1u);
  EXPECT_EQ(first_number(11, kTargetLife), 2u);
  EXPECT_EQ(first_number(12, kTargetLife + 1), 3u);
  EXPECT_EQ(first_number(13, kTargetLife), 4u);  // the first one remembers 1 and 2
}

TEST_F(SourceMachineTest, stopping_the_agent_ends_every_call_once) {
  const TransferId sending = start_sending();
  start();
  machine_.take_actions();
  machine_.cancel_all(at_ms(5));
  EXPECT_EQ(actions_of<EndCall>(machine_.take_actions()).size(), 1u);
  machine_.on_data_done(sending, cancelled("stopped"), {}, at_ms(6));
  EXPECT_EQ(only_end(machine_.take_actions()), StatusCode::kCancelled);
}

}  // namespace
}  // namespace mempool
