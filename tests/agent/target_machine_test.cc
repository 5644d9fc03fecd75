// SPDX-License-Identifier: Apache-2.0
// Owns the proof of the target's half of the protocol, step by step.
#include "agent/target_machine.h"

#include <gtest/gtest.h>

#include "tests/agent/machine_parts.h"

namespace mempool {
namespace {

constexpr SessionId kSession = 4;
constexpr uint64_t kSourceLife = 55;

class TargetMachineTest : public testing::Test {
 protected:
  TargetMachineTest() : pool_(tiny_pool(6)), index_(*pool_, make_eviction_policy("lru").value()) {
    make(options());
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
    ASSERT_TRUE(machine_->on_session_up(kSession, source()).ok());
  }
  static PeerInfo source(uint64_t incarnation = kSourceLife) {
    return {"prefill", incarnation, tiny_content().model, {}};
  }

  static Offer offer(uint64_t number, TokenId tokens = 10) {
    return {.number = number,
            .request_id = 42,
            .deadline_ms = 600,
            .content = tiny_content(),
            .tokens = tokens_up_to(tokens)};
  }
  static Prompt prompt(const std::vector<TokenId>& tokens) { return {tiny_content(), tokens}; }

  std::vector<Action> take(const Message& message, int64_t ms = 0, SessionId session = kSession) {
    machine_->on_message(session, message, at_ms(ms));
    return machine_->take_actions();
  }
  std::vector<Action> at(int64_t milliseconds) {
    machine_->on_time(at_ms(milliseconds));
    return machine_->take_actions();
  }
  OfferReply reserve(uint64_t number, TokenId tokens = 10) {
    return messages_of<OfferReply>(take(offer(number, tokens))).at(0);
  }
  /// Bring a prompt through all steps over one lane.
  std::vector<Action> arrive(uint64_t number, TokenId tokens = 10) {
    const OfferReply reply = reserve(number, tokens);
    machine_->on_notified(kSession, reply.slot);
    return take(Commit{number, 1, {}});
  }
  /// Publish the first tokens of the prompt as the engine would, and let go of them.
  std::vector<BlockAddress> publish(TokenId tokens) {
    std::vector<BlockAddress> blocks;
    EXPECT_TRUE(pool_->alloc(kCallerSession, tokens / 4, BlockState::kWriting, blocks).ok());
    const auto list = tokens_up_to(tokens);
    EXPECT_TRUE(index_.insert(kCallerSession, prompt(list), blocks).ok());
    EXPECT_TRUE(pool_->unpin(kCallerSession, blocks).ok());
    return blocks;
  }
  uint64_t quarantined() const { return pool_->count(BlockState::kQuarantined); }

  std::unique_ptr<BlockPool> pool_;
  LocalIndex index_;
  std::unique_ptr<TargetMachine> machine_;
};

// ---- draining --------------------------------------------------------------------------------

TEST_F(TargetMachineTest, refusing_turns_offers_away_with_a_hint_and_lets_open_ones_end) {
  const OfferReply open = reserve(1);
  machine_->refuse_new();
  Offer fetch = offer(3, 8);
  fetch.fetch = true;
  for (const Offer& late : {offer(2), fetch}) {
    const auto actions = take(late);
    const OfferReply refused = messages_of<OfferReply>(actions).at(0);
    EXPECT_EQ(refused.status.code(), StatusCode::kUnavailable);
    EXPECT_NE(refused.status.message().find("draining"), std::string_view::npos);
    EXPECT_EQ(refused.status.retry_after_ms(), options().retry_hint_ms);
    EXPECT_TRUE(actions_of<OpenSlot>(actions).empty());
  }
  EXPECT_EQ(pool_->count(BlockState::kReserved), 3u);
  EXPECT_EQ(machine_->open(), 1u);
  EXPECT_TRUE(messages_of<OfferReply>(take(offer(1))).at(0).status.ok());  // asked again
  machine_->on_notified(kSession, open.slot);
  EXPECT_TRUE(messages_of<CommitReply>(take(Commit{1, 1, {}})).at(0).status.ok());
  EXPECT_EQ(machine_->open(), 0u);
}

TEST_F(TargetMachineTest, refusing_leaves_a_lease_to_its_reader) {
  publish(8);
  Offer fetch = offer(1, 8);
  fetch.fetch = true;
  take(fetch);
  machine_->refuse_new();
  EXPECT_EQ(machine_->open(), 1u);
  EXPECT_EQ(messages_of<CancelReply>(take(Cancel{1})).size(), 1u);
  EXPECT_EQ(machine_->open(), 0u);
}

// ---- quotas ----------------------------------------------------------------------------------

/// A tenant with a quota of 4 of the pool's 8 blocks. Thread: confined.
class TargetQuotaTest : public TargetMachineTest {
 protected:
  TargetQuotaTest()
      : index_(*pool_, make_eviction_policy("lru").value(), nullptr, nullptr,
               {{{"acme", tiny_tenant().tenant, 4, 0}}, options().retry_hint_ms}),
        machine_(options(), *pool_, index_) {
    EXPECT_TRUE(machine_.on_session_up(kSession, source()).ok());
  }
  static Content tiny_tenant() {
    ContentSpec spec = tiny_spec();
    spec.tenant_salt = "acme's";
    return make_content(spec).value();
  }
  Status reserve(uint64_t number, TokenId tokens, OfferReply* reply = nullptr) {
    Offer asked = offer(number, tokens);
    asked.content = tiny_tenant();
    machine_.on_message(kSession, asked, at_ms(0));
    const auto answer = messages_of<OfferReply>(machine_.take_actions()).at(0);
    if (reply != nullptr) *reply = answer;
    return answer.status;
  }
  const TenantShare& acme() const { return index_.tenants().listed().front(); }

  LocalIndex index_;
  TargetMachine machine_;
};

TEST_F(TargetQuotaTest, what_is_reserved_counts_until_its_transfer_is_over) {
  OfferReply reply;
  ASSERT_TRUE(reserve(1, 10, &reply).ok());
  EXPECT_EQ(acme().awaited, 3u);
  const Status full = reserve(2, 8);
  EXPECT_EQ(full.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(full.retry_after_ms(), options().retry_hint_ms);
  EXPECT_EQ(pool_->count(BlockState::kReserved), 3u);
  machine_.on_message(kSession, Cancel{1}, at_ms(0));
  EXPECT_EQ(acme().awaited, 0u);
  EXPECT_TRUE(reserve(3, 8).ok());
}

TEST_F(TargetQuotaTest, what_arrives_counts_as_published_and_its_tail_no_more) {
  OfferReply reply;
  ASSERT_TRUE(reserve(1, 10, &reply).ok());
  machine_.on_notified(kSession, reply.slot);
  machine_.on_message(kSession, Commit{1, 1, {}}, at_ms(0));
  EXPECT_EQ(acme().published, 2u);
  EXPECT_EQ(acme().awaited, 0u);
}

TEST_F(TargetQuotaTest, blocks_of_a_lost_peer_count_until_it_is_fenced) {
  ASSERT_TRUE(reserve(1, 16).ok());
  machine_.on_session_down(kSession);
  EXPECT_EQ(acme().awaited, 4u);
  machine_.on_fenced(kSession);
  EXPECT_EQ(acme().awaited, 0u);
}

TEST_F(TargetQuotaTest, an_offer_larger_than_the_quota_gets_no_hint) {
  const Status status = reserve(1, 17);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(status.retry_after_ms(), 0u);
  EXPECT_EQ(pool_->count(BlockState::kReserved), 0u);
}

// ---- fetches ---------------------------------------------------------------------------------

TEST_F(TargetMachineTest, a_fetch_leases_what_is_here_until_its_cancel) {
  const auto blocks = publish(8);
  Offer fetch = offer(1, 12);
  fetch.fetch = true;
  const auto actions = take(fetch);
  const OfferReply reply = messages_of<OfferReply>(actions).at(0);
  EXPECT_EQ(reply.matched, blocks);
  EXPECT_TRUE(reply.reserved.empty());
  EXPECT_EQ(actions_of<OpenSlot>(actions).size(), 1u);
  EXPECT_EQ(pool_->pins_of(kSession, blocks[1].index()), 1u);
  const uint64_t piece = pool_->segments().all().front()->layout.piece_bytes;
  EXPECT_TRUE(machine_->admits(kSession, reply.slot, Operation::kRead, 0, 0, piece));
  EXPECT_FALSE(machine_->admits(kSession, reply.slot, Operation::kWrite, 0, 0, piece));
  EXPECT_EQ(index_.evict(8), 0u);  // nobody else can have them
  const auto ended = take(Cancel{1});
  EXPECT_EQ(messages_of<CancelReply>(ended).size(), 1u);
  EXPECT_EQ(actions_of<CloseSlot>(ended).size(), 1u);
  EXPECT_EQ(pool_->pins(blocks[1].index()), 0u);
  EXPECT_EQ(index_.blocks(), 2u);
}

TEST_F(TargetMachineTest, a_fetch_cannot_be_committed) {
  publish(8);
  Offer fetch = offer(1, 8);
  fetch.fetch = true;
  take(fetch);
  const auto answer = messages_of<CommitReply>(take(Commit{1, 0, {}})).at(0);
  EXPECT_EQ(answer.status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(machine_->open(), 1u);
}

TEST_F(TargetMachineTest, a_reader_past_its_time_is_asked_and_then_fenced_before_the_lease_ends) {
  const auto blocks = publish(8);
  Offer fetch = offer(1, 8);
  fetch.fetch = true;
  const OfferReply reply = messages_of<OfferReply>(take(fetch)).at(0);
  const auto asked = at(1001);
  EXPECT_EQ(messages_of<StopRequest>(asked).size(), 1u);
  EXPECT_EQ(actions_of<CloseSlot>(asked).size(), 1u);
  EXPECT_EQ(pool_->pins_of(kSession, blocks[0].index()), 1u);
  EXPECT_EQ(quarantined(), 0u);
  EXPECT_EQ(actions_of<FencePeer>(at(2002)).size(), 1u);
  EXPECT_EQ(pool_->pins_of(kSession, blocks[0].index()), 1u);
  machine_->on_fenced(kSession);
  EXPECT_EQ(pool_->pins(blocks[0].index()), 0u);
  EXPECT_FALSE(machine_->admits(kSession, reply.slot, Operation::kRead, 0, 0, 1));
}

// ---- offers ----------------------------------------------------------------------------------

TEST_F(TargetMachineTest, an_offer_reserves_what_is_missing_behind_what_is_there) {
  const auto published = publish(4);
  const auto actions = take(offer(1));
  const OfferReply reply = messages_of<OfferReply>(actions).at(0);
  EXPECT_EQ(reply.matched, published);
  EXPECT_EQ(reply.reserved.size(), 2u);
  EXPECT_EQ(actions_of<OpenSlot>(actions).at(0).slot, reply.slot);
  EXPECT_EQ(pool_->count(BlockState::kReserved), 2u);
  EXPECT_EQ(pool_->pins_of(kSession, published[0].index()), 1u);
}

TEST_F(TargetMachineTest, an_offer_asked_again_has_one_answer_and_one_effect) {
  const OfferReply first = reserve(1);
  const OfferReply again = reserve(1);
  EXPECT_EQ(again.slot, first.slot);
  EXPECT_EQ(again.reserved, first.reserved);
  EXPECT_EQ(pool_->count(BlockState::kReserved), 3u);
}

TEST_F(TargetMachineTest, an_offer_evicts_what_nobody_pins) {
  auto other = tokens_up_to(24);
  for (TokenId& token : other) token += 100;
  std::vector<BlockAddress> blocks;
  ASSERT_TRUE(pool_->alloc(kCallerSession, 6, BlockState::kWriting, blocks).ok());
  ASSERT_TRUE(index_.insert(kCallerSession, prompt(other), blocks).ok());
  ASSERT_TRUE(pool_->unpin(kCallerSession, blocks).ok());
  EXPECT_TRUE(reserve(1).status.ok());
  EXPECT_EQ(index_.evicted(), 1u);
}

TEST_F(TargetMachineTest, no_room_is_said_at_once_with_a_hint_and_holds_nothing) {
  publish(4);
  std::vector<BlockAddress> held;
  ASSERT_TRUE(pool_->alloc(kCallerSession, 6, BlockState::kWriting, held).ok());
  const OfferReply refusal = reserve(1);
  EXPECT_EQ(refusal.status.code(), StatusCode::kResourceExhausted);
  EXPECT_GT(refusal.status.retry_after_ms(), 0u);
  EXPECT_EQ(pool_->audit()->pins, 6u);
  EXPECT_EQ(machine_->open(), 0u);
}

TEST_F(TargetMachineTest, arrivals_that_nobody_takes_push_back) {
  arrive(1, 4);
  arrive(2, 4);
  EXPECT_EQ(reserve(3).status.code(), StatusCode::kResourceExhausted);
  machine_->on_received();
  EXPECT_TRUE(reserve(4).status.ok());
}

TEST_F(TargetMachineTest, offers_that_make_no_sense_are_refused) {
  Offer other_content = offer(1);
  other_content.content.model.words[1] ^= 1;
  Offer no_tokens = offer(2);
  no_tokens.tokens.clear();
  Offer other_medium = offer(3);
  other_medium.medium = Medium::kDevice;
  Offer too_long = offer(5, 4 * 9);
  for (const Offer& bad : {other_content, no_tokens, other_medium, too_long}) {
    const auto actions = take(bad);
    EXPECT_FALSE(messages_of<OfferReply>(actions).at(0).status.ok()) << bad.number;
    EXPECT_TRUE(actions_of<OpenSlot>(actions).empty());
  }
  EXPECT_EQ(pool_->free_blocks(), pool_->blocks());
}

TEST_F(TargetMachineTest, numbers_below_the_mark_run_never_again) {
  for (uint64_t number = 1; number <= AnswerTable::kAnswers + 1; ++number) take(Cancel{number});
  EXPECT_EQ(reserve(1).status.code(), StatusCode::kNotFound);
  EXPECT_EQ(pool_->count(BlockState::kReserved), 0u);
}

// ---- commit ----------------------------------------------------------------------------------

TEST_F(TargetMachineTest, a_commit_publishes_whole_blocks_and_delivers_the_tail) {
  const OfferReply reply = reserve(1);
  machine_->on_notified(kSession, reply.slot);
  const auto actions = take(Commit{1, 1, {}});
  const Arrival arrival = actions_of<DeliverArrival>(actions).at(0).arrival;
  EXPECT_EQ(arrival.blocks, reply.reserved);
  EXPECT_EQ(arrival.source, "prefill");
  EXPECT_EQ(arrival.request_id, 42u);
  EXPECT_EQ(arrival.tokens, tokens_up_to(10));
  EXPECT_EQ(arrival.last_block_tokens, 2u);
  ASSERT_EQ(arrival.blocks.size(), 3u);
  EXPECT_EQ(messages_of<CommitReply>(actions).at(0).serving, arrival.blocks);
  EXPECT_EQ(index_.peek(prompt(arrival.tokens)), 8u);
  EXPECT_EQ(pool_->state(arrival.blocks[2].index()), BlockState::kPrivate);
  for (const BlockAddress& block : arrival.blocks) {
    EXPECT_EQ(pool_->pins_of(kCallerSession, block.index()), 1u);
    EXPECT_EQ(pool_->pins_of(kSession, block.index()), 0u);
  }
}

TEST_F(TargetMachineTest, nothing_is_published_before_every_lane_has_said_so) {
  const OfferReply reply = reserve(1);
  machine_->on_notified(kSession, reply.slot);
  EXPECT_TRUE(take(Commit{1, 3, {}}).empty());
  machine_->on_notified(kSession, reply.slot);
  EXPECT_TRUE(machine_->take_actions().empty());
  EXPECT_EQ(index_.blocks(), 0u);
  machine_->on_notified(kSession, reply.slot);
  EXPECT_TRUE(messages_of<CommitReply>(machine_->take_actions()).at(0).status.ok());
  EXPECT_EQ(index_.blocks(), 2u);
}

TEST_F(TargetMachineTest, a_commit_of_no_lane_waits_for_one_where_data_must_come) {
  reserve(1);
  EXPECT_TRUE(take(Commit{1, 0, {}}).empty());
  EXPECT_EQ(index_.blocks(), 0u);
}

TEST_F(TargetMachineTest, notifications_of_a_slot_that_is_over_or_anothers_do_not_count) {
  const OfferReply first = reserve(1);
  take(Cancel{1});
  const OfferReply second = reserve(2);
  ASSERT_EQ(second.slot.index, first.slot.index);
  machine_->on_notified(kSession, first.slot);
  machine_->on_notified(kSession + 1, second.slot);
  EXPECT_TRUE(take(Commit{2, 1, {}}).empty());
}

TEST_F(TargetMachineTest, a_commit_said_again_is_answered_again_and_arrives_once) {
  const auto first = messages_of<CommitReply>(arrive(1)).at(0);
  const auto actions = take(Commit{1, 1, {}});
  EXPECT_EQ(messages_of<CommitReply>(actions).at(0).serving, first.serving);
  EXPECT_TRUE(actions_of<DeliverArrival>(actions).empty());
  EXPECT_EQ(messages_of<CommitReply>(take(offer(1))).size(), 1u);
  EXPECT_EQ(pool_->count(BlockState::kReserved), 0u);
}

TEST_F(TargetMachineTest, a_commit_of_what_was_never_offered_is_not_found) {
  EXPECT_EQ(messages_of<CommitReply>(take(Commit{3, 1, {}})).at(0).status.code(),
            StatusCode::kNotFound);
}

TEST_F(TargetMachineTest, what_was_published_meanwhile_stays_and_serves) {
  const OfferReply reply = reserve(1, 8);
  const auto published = publish(8);
  machine_->on_notified(kSession, reply.slot);
  const auto actions = take(Commit{1, 1, {}});
  EXPECT_EQ(messages_of<CommitReply>(actions).at(0).serving, published);
  EXPECT_EQ(actions_of<DeliverArrival>(actions).at(0).arrival.blocks, published);
  for (const BlockAddress& block : reply.reserved) EXPECT_FALSE(pool_->check(block).ok());
}

TEST_F(TargetMachineTest, matched_blocks_that_were_erased_meanwhile_are_published_again) {
  const auto published = publish(4);
  const OfferReply reply = reserve(1);
  index_.erase(prompt(tokens_up_to(4)));
  EXPECT_EQ(pool_->state(published[0].index()), BlockState::kPrivate);
  machine_->on_notified(kSession, reply.slot);
  EXPECT_TRUE(messages_of<CommitReply>(take(Commit{1, 1, {}})).at(0).status.ok());
  EXPECT_EQ(index_.peek(prompt(tokens_up_to(10))), 8u);
}

TEST_F(TargetMachineTest, without_an_engine_nothing_is_delivered_and_nothing_stays_pinned) {
  TargetMachine::Options quiet = options();
  quiet.deliver_arrivals = false;
  make(quiet);
  const auto actions = arrive(1);
  EXPECT_TRUE(actions_of<DeliverArrival>(actions).empty());
  EXPECT_TRUE(messages_of<CommitReply>(actions).at(0).status.ok());
  EXPECT_EQ(pool_->audit()->pins, 0u);
  EXPECT_EQ(pool_->count(BlockState::kPublished), 2u);
  EXPECT_EQ(pool_->free_blocks(), 6u);
}

// ---- checksums -------------------------------------------------------------------------------

TEST_F(TargetMachineTest, sums_are_checked_before_anything_is_published) {
  const OfferReply reply = reserve(1);
  machine_->on_notified(kSession, reply.slot);
  const auto actions = take(Commit{1, 1, {{1, 111}, {2, 222}}});
  const VerifyBlocks verify = actions_of<VerifyBlocks>(actions).at(0);
  EXPECT_EQ(verify.blocks,
            (std::vector<uint32_t>{reply.reserved[1].index(), reply.reserved[2].index()}));
  EXPECT_EQ(verify.sums, (std::vector<uint64_t>{111, 222}));
  EXPECT_EQ(index_.blocks(), 0u);
  machine_->on_verified(kSession, 1, {});
  EXPECT_EQ(index_.blocks(), 2u);
  EXPECT_EQ(pool_->checksum(reply.reserved[1].index()), 111u);
}

TEST_F(TargetMachineTest, a_block_with_wrong_bytes_is_set_aside_until_its_session_is_over) {
  const OfferReply reply = reserve(1);
  machine_->on_notified(kSession, reply.slot);
  take(Commit{1, 1, {{1, 111}}});
  machine_->on_verified(kSession, 1, {reply.reserved[1].index()});
  EXPECT_EQ(messages_of<CommitReply>(machine_->take_actions()).at(0).status.code(),
            StatusCode::kCorruption);
  EXPECT_EQ(quarantined(), 1u);
  EXPECT_EQ(index_.blocks(), 0u);
  EXPECT_EQ(pool_->free_blocks(), 7u);
  machine_->on_session_down(kSession);
  machine_->on_fenced(kSession);
  EXPECT_EQ(quarantined(), 0u);
}

TEST_F(TargetMachineTest, sums_said_twice_or_of_blocks_that_are_not_sent_count_once_or_not) {
  const OfferReply reply = reserve(1);
  machine_->on_notified(kSession, reply.slot);
  const auto actions = take(Commit{1, 1, {{1, 111}, {99, 5}, {1, 111}}});
  const VerifyBlocks verify = actions_of<VerifyBlocks>(actions).at(0);
  EXPECT_EQ(verify.blocks, (std::vector<uint32_t>{reply.reserved[1].index()}));
  machine_->on_verified(kSession, 1, verify.blocks);
  EXPECT_EQ(quarantined(), 1u);
}

TEST_F(TargetMachineTest, a_cancel_while_blocks_are_being_hashed_waits_for_the_hash) {
  const OfferReply reply = reserve(1);
  machine_->on_notified(kSession, reply.slot);
  take(Commit{1, 1, {{0, 111}}});
  EXPECT_TRUE(take(Cancel{1}).empty());
  EXPECT_EQ(pool_->count(BlockState::kReserved), 3u);
  machine_->on_verified(kSession, 1, {});
  EXPECT_EQ(messages_of<CancelReply>(machine_->take_actions()).size(), 1u);
  EXPECT_EQ(pool_->free_blocks(), pool_->blocks());
}

// ---- cancel, quarantine, fences --------------------------------------------------------------

TEST_F(TargetMachineTest, a_cancel_frees_and_is_answered_however_often_it_is_said) {
  const OfferReply reply = reserve(1);
  const auto actions = take(Cancel{1});
  EXPECT_EQ(actions_of<CloseSlot>(actions).at(0).slot, reply.slot);
  EXPECT_EQ(messages_of<CancelReply>(actions).size(), 1u);
  EXPECT_EQ(pool_->free_blocks(), pool_->blocks());
  EXPECT_EQ(messages_of<CancelReply>(take(Cancel{1})).size(), 1u);
}

TEST_F(TargetMachineTest, a_cancel_that_overtakes_its_offer_keeps_it_from_reserving) {
  EXPECT_EQ(messages_of<CancelReply>(take(Cancel{1})).size(), 1u);
  EXPECT_EQ(reserve(1).status.code(), StatusCode::kCancelled);
  EXPECT_EQ(pool_->free_blocks(), pool_->blocks());
}

TEST_F(TargetMachineTest, past_its_deadline_a_transfer_is_set_aside_and_its_source_asked) {
  reserve(1);
  EXPECT_EQ(machine_->next_time(), at_ms(1000));  // 600 and twice the retransmission
  EXPECT_TRUE(at(999).empty());
  EXPECT_EQ(messages_of<StopRequest>(at(1000)).at(0).number, 1u);
  EXPECT_EQ(quarantined(), 3u);
  EXPECT_EQ(pool_->audit()->quarantine.at("prefill"), 3u);
  EXPECT_EQ(messages_of<StopRequest>(at(1200)).size(), 1u);
  take(Cancel{1}, 1300);
  EXPECT_EQ(quarantined(), 0u);
  EXPECT_EQ(pool_->free_blocks(), pool_->blocks());
}

TEST_F(TargetMachineTest, a_commit_that_comes_too_late_publishes_nothing) {
  const OfferReply reply = reserve(1);
  machine_->on_notified(kSession, reply.slot);
  at(1000);
  EXPECT_TRUE(take(Commit{1, 1, {}}, 1001).empty());
  EXPECT_EQ(index_.blocks(), 0u);
}

TEST_F(TargetMachineTest, a_source_that_does_not_answer_is_fenced_before_its_blocks_are_free) {
  reserve(1);
  at(1000);
  EXPECT_TRUE(actions_of<FencePeer>(at(1999)).empty());
  EXPECT_EQ(actions_of<FencePeer>(at(2000)).at(0).session, kSession);
  EXPECT_EQ(quarantined(), 3u);
  EXPECT_TRUE(take(Cancel{1}, 2001).empty());  // its session is over
  EXPECT_EQ(quarantined(), 3u);
  machine_->on_fenced(kSession);
  EXPECT_EQ(quarantined(), 0u);
  EXPECT_EQ(machine_->open(), 0u);
}

TEST_F(TargetMachineTest, a_lost_session_keeps_its_blocks_aside_until_the_fence) {
  reserve(1);
  machine_->on_session_down(kSession);
  EXPECT_EQ(actions_of<FencePeer>(machine_->take_actions()).size(), 1u);
  EXPECT_EQ(quarantined(), 3u);
  machine_->on_session_down(kSession);
  EXPECT_TRUE(machine_->take_actions().empty());
  machine_->on_fenced(kSession);
  EXPECT_EQ(pool_->free_blocks(), pool_->blocks());
}

TEST_F(TargetMachineTest, a_fence_does_not_take_blocks_from_under_the_hash) {
  const OfferReply reply = reserve(1);
  machine_->on_notified(kSession, reply.slot);
  take(Commit{1, 1, {{0, 111}}});
  machine_->on_session_down(kSession);
  machine_->on_fenced(kSession);
  EXPECT_EQ(pool_->count(BlockState::kReserved), 3u);
  machine_->on_verified(kSession, 1, {});
  EXPECT_EQ(pool_->free_blocks(), pool_->blocks());
  EXPECT_EQ(index_.blocks(), 0u);
}

TEST_F(TargetMachineTest, a_source_is_let_in_again_when_its_older_session_is_over) {
  reserve(1);
  EXPECT_EQ(machine_->on_session_up(5, source()).code(), StatusCode::kUnavailable);
  machine_->on_session_down(kSession);
  EXPECT_EQ(machine_->on_session_up(5, source()).code(), StatusCode::kUnavailable);
  machine_->on_fenced(kSession);
  EXPECT_TRUE(machine_->on_session_up(5, source()).ok());
}

TEST_F(TargetMachineTest, a_goodbye_ends_the_session_without_a_fence) {
  arrive(1);
  const auto actions = take(Goodbye{});
  EXPECT_EQ(actions_of<CloseSession>(actions).at(0).session, kSession);
  EXPECT_TRUE(actions_of<FencePeer>(actions).empty());
  EXPECT_TRUE(take(Goodbye{}).empty());  // said again before the word was out
  EXPECT_TRUE(machine_->on_session_up(5, source()).ok());
}

TEST_F(TargetMachineTest, a_goodbye_with_a_transfer_open_is_a_broken_session) {
  reserve(1);
  const auto actions = take(Goodbye{});
  EXPECT_TRUE(actions_of<CloseSession>(actions).empty());
  EXPECT_EQ(actions_of<FencePeer>(actions).size(), 1u);
  EXPECT_EQ(quarantined(), 3u);
}

TEST_F(TargetMachineTest, a_number_has_one_effect_over_all_sessions_of_one_life) {
  arrive(1);
  machine_->on_session_down(kSession);
  machine_->on_fenced(kSession);
  machine_->take_actions();
  ASSERT_TRUE(machine_->on_session_up(5, source()).ok());
  EXPECT_EQ(messages_of<CommitReply>(take(offer(1), 0, 5)).size(), 1u);
  EXPECT_EQ(pool_->count(BlockState::kReserved), 0u);
}

TEST_F(TargetMachineTest, the_next_life_of_a_source_is_not_answered_for_the_last_one) {
  arrive(1, 4);
  const OfferReply open = reserve(2, 8);
  ASSERT_EQ(open.reserved.size(), 1u);
  ASSERT_TRUE(machine_->on_session_up(5, source(kSourceLife + 1)).ok());
  machine_->on_session_down(kSession);  // noticed late, after the restart
  machine_->on_fenced(kSession);
  for (const uint64_t number : {1, 2}) {
    const auto replies = messages_of<OfferReply>(take(offer(number, 12), 0, 5));
    ASSERT_EQ(replies.size(), 1u) << number;
    EXPECT_TRUE(replies[0].status.ok());
    take(Cancel{number}, 0, 5);
  }
}

TEST_F(TargetMachineTest, an_earlier_life_that_asks_again_is_not_found_and_reserves_nothing) {
  arrive(1, 4);
  machine_->on_session_down(kSession);
  machine_->on_fenced(kSession);
  ASSERT_TRUE(machine_->on_session_up(5, source(kSourceLife + 1)).ok());
  ASSERT_TRUE(machine_->on_session_up(6, source()).ok());  // the first one was only stopped
  const auto replies = messages_of<OfferReply>(take(offer(1, 12), 0, 6));
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(replies[0].status.code(), StatusCode::kNotFound);
  EXPECT_EQ(pool_->count(BlockState::kReserved), 0u);
  EXPECT_TRUE(messages_of<OfferReply>(take(offer(2, 12), 0, 6)).at(0).status.ok());
}

TEST_F(TargetMachineTest, peers_write_where_their_slot_is_open_and_read_nowhere) {
  const OfferReply reply = reserve(1);
  const BlockView view = pool_->view(reply.reserved[0].index());
  const uint64_t offset = view.piece(0, 0) - view.segment;
  EXPECT_TRUE(machine_->admits(kSession, reply.slot, Operation::kWrite, 0, offset, 8));
  EXPECT_FALSE(machine_->admits(kSession, reply.slot, Operation::kRead, 0, offset, 8));
  machine_->on_notified(kSession, reply.slot);
  take(Commit{1, 1, {}});
  EXPECT_FALSE(machine_->admits(kSession, reply.slot, Operation::kWrite, 0, offset, 8));
}

}  // namespace
}  // namespace mempool
