// SPDX-License-Identifier: Apache-2.0
// Owns the proof of how a source shares its connections among peers.
#include <gtest/gtest.h>

#include "agent/source_machine.h"
#include "tests/agent/machine_parts.h"

namespace mempool {
namespace {

constexpr uint64_t kTargetLife = 77;

/// A source that may have two connections; the session with peer "a" is 1, with "b" 2, and so on.
class SourceSessionsTest : public testing::Test {
 protected:
  SourceSessionsTest() : pool_(tiny_pool(5)), machine_(options(), *pool_) {
    EXPECT_TRUE(pool_->alloc(kCallerSession, 3, BlockState::kWriting, blocks_).ok());
  }

  static SourceMachine::Options options() {
    SourceMachine::Options options;
    options.max_connections = 2;
    options.retransmit = std::chrono::milliseconds(200);
    return options;
  }
  static SessionId session_of(const std::string& peer) { return peer[0] - 'a' + 1; }

  TransferId start(const std::string& peer, int64_t deadline_ms = 1000) {
    TransferRequest request;
    request.content = tiny_content();
    request.tokens = tokens_up_to(10);
    request.blocks = blocks_;
    request.deadline = at_ms(deadline_ms);
    const auto started = machine_.start(peer, request, at_ms(0));
    EXPECT_TRUE(started.ok()) << started.status().to_string();
    return *started;
  }
  void up(const std::string& peer) {
    const PeerInfo info{peer, kTargetLife, tiny_content().model, {}};
    machine_.on_session_up(peer, session_of(peer), info, at_ms(0));
  }
  void down(const std::string& peer) {
    machine_.on_session_down(session_of(peer), unavailable("it is gone"), at_ms(0));
  }
  /// The target of the peer's first transfer refuses it, so that it is over.
  void refuse(const std::string& peer, uint64_t number = 1) {
    OfferReply reply;
    reply.number = number;
    reply.status = resource_exhausted("no room");
    machine_.on_message(session_of(peer), reply, at_ms(0));
  }
  /// Make a session with the peer that nothing uses any more.
  void use(const std::string& peer) {
    start(peer);
    up(peer);
    refuse(peer);
    machine_.take_actions();
  }
  std::vector<std::string> dialed() { return names_of(machine_.take_actions()); }
  static std::vector<std::string> names_of(const std::vector<Action>& actions) {
    std::vector<std::string> names;
    for (const DialPeer& dial : actions_of<DialPeer>(actions)) names.push_back(dial.peer);
    return names;
  }
  static std::vector<SessionId> closed_by(const std::vector<Action>& actions) {
    std::vector<SessionId> sessions;
    for (const SendMessage& send : actions_of<SendMessage>(actions)) {
      if (std::holds_alternative<Goodbye>(send.message)) sessions.push_back(send.session);
    }
    return sessions;
  }

  using Names = std::vector<std::string>;
  using Sessions = std::vector<SessionId>;

  std::unique_ptr<BlockPool> pool_;
  std::vector<BlockAddress> blocks_;
  SourceMachine machine_;
};

TEST_F(SourceSessionsTest, the_idle_session_used_least_recently_makes_room) {
  use("a");
  use("b");
  start("a");
  refuse("a", 2);
  machine_.take_actions();
  start("c");
  const auto actions = machine_.take_actions();
  EXPECT_EQ(closed_by(actions), Sessions{session_of("b")});
  EXPECT_EQ(names_of(actions), Names{});  // two are two, until the old one is gone
  EXPECT_TRUE(machine_.closing(session_of("b")));
  EXPECT_FALSE(machine_.closing(session_of("a")));
  down("b");
  EXPECT_EQ(dialed(), Names{"c"});
  EXPECT_EQ(machine_.connections(), 2u);
  EXPECT_EQ(machine_.closed_idle(), 1u);
}

TEST_F(SourceSessionsTest, a_session_in_use_is_not_closed_and_the_transfer_waits_for_its_end) {
  start("a");
  up("a");
  start("b");
  machine_.take_actions();  // b is being dialed
  start("c");
  EXPECT_TRUE(machine_.take_actions().empty());
  up("b");
  machine_.take_actions();
  refuse("b");
  EXPECT_EQ(closed_by(machine_.take_actions()), Sessions{session_of("b")});
}

TEST_F(SourceSessionsTest, an_ended_call_whose_cancel_is_open_keeps_its_session) {
  use("a");
  const TransferId open = start("a");
  use("b");
  start("b");
  machine_.cancel(open, at_ms(1));
  start("c");
  EXPECT_EQ(closed_by(machine_.take_actions()), Sessions{});
  machine_.on_message(session_of("a"), CancelReply{2}, at_ms(2));
  EXPECT_EQ(closed_by(machine_.take_actions()), Sessions{session_of("a")});
}

TEST_F(SourceSessionsTest, a_transfer_to_a_peer_whose_session_closes_dials_anew) {
  use("a");
  use("b");
  start("c");
  machine_.take_actions();
  start("a");  // its session is on its way out
  auto actions = machine_.take_actions();
  EXPECT_TRUE(messages_of<Offer>(actions).empty());
  EXPECT_EQ(closed_by(actions), Sessions{session_of("b")});
  down("a");
  EXPECT_EQ(dialed(), Names{"c"});  // it was first
  down("b");
  EXPECT_EQ(dialed(), Names{"a"});
  up("a");
  EXPECT_EQ(messages_of<Offer>(machine_.take_actions()).at(0).number, 2u);
}

TEST_F(SourceSessionsTest, a_peer_that_holds_blocks_for_us_keeps_its_session_until_it_has_heard) {
  TransferRequest wish;
  wish.content = tiny_content();
  wish.reserve = 1;
  wish.deadline = at_ms(1000);
  ASSERT_TRUE(machine_.start("a", wish, at_ms(0)).ok());
  up("a");
  OfferReply reply;
  reply.number = 1;
  reply.reserved = {BlockAddress::make(kTargetLife, 1, Medium::kHost, 20)};
  machine_.on_message(session_of("a"), reply, at_ms(0));
  start("b");
  start("c");
  EXPECT_EQ(closed_by(machine_.take_actions()), Sessions{});
  ASSERT_TRUE(machine_.release(kCallerSession, reply.reserved, at_ms(1)).ok());
  EXPECT_EQ(closed_by(machine_.take_actions()), Sessions{});
  machine_.on_message(session_of("a"), CancelReply{2}, at_ms(2));
  EXPECT_EQ(closed_by(machine_.take_actions()), Sessions{session_of("a")});
}

TEST_F(SourceSessionsTest, a_goodbye_that_nobody_answers_has_another_idle_session_closed) {
  use("a");
  use("b");
  start("c");
  EXPECT_EQ(closed_by(machine_.take_actions()), Sessions{session_of("a")});
  machine_.on_time(at_ms(199));
  EXPECT_TRUE(machine_.take_actions().empty());
  machine_.on_time(at_ms(200));
  EXPECT_EQ(closed_by(machine_.take_actions()), (Sessions{session_of("a"), session_of("b")}));
  down("b");
  EXPECT_EQ(dialed(), Names{"c"});
  EXPECT_TRUE(machine_.closing(session_of("a")));
}

TEST_F(SourceSessionsTest, a_goodbye_is_said_again_until_the_session_is_over) {
  use("a");
  start("b");
  start("c");
  machine_.take_actions();
  EXPECT_EQ(machine_.next_time(), at_ms(200));
  machine_.on_time(at_ms(200));
  EXPECT_EQ(closed_by(machine_.take_actions()), Sessions{session_of("a")});
  down("a");
  machine_.take_actions();
  machine_.on_time(at_ms(500));
  EXPECT_TRUE(machine_.take_actions().empty());
}

TEST_F(SourceSessionsTest, a_transfer_that_finds_no_connection_ends_at_its_deadline_and_says_why) {
  start("a");
  start("b");
  start("c", 300);
  machine_.take_actions();
  machine_.on_time(at_ms(300));
  const auto ends = actions_of<EndCall>(machine_.take_actions());
  ASSERT_EQ(ends.size(), 1u);
  EXPECT_EQ(ends[0].status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_NE(ends[0].status.message().find("all 2 are in use or being closed"),
            std::string_view::npos);
  EXPECT_NE(ends[0].status.message().find("limits.max_connections"), std::string_view::npos);
  up("a");
  refuse("a");
  EXPECT_TRUE(closed_by(machine_.take_actions()).empty());  // nobody waits any more
}

TEST_F(SourceSessionsTest, a_dial_that_fails_gives_its_place_to_the_next) {
  start("a");
  start("b");
  start("c");
  machine_.take_actions();
  machine_.on_dial_failed("a", unavailable("nobody is there"), at_ms(1));
  EXPECT_EQ(dialed(), Names{"c"});
}

TEST_F(SourceSessionsTest, a_session_that_comes_too_late_for_its_transfer_goes_to_another_peer) {
  start("a", 100);
  start("b");
  start("c");
  machine_.take_actions();
  machine_.on_time(at_ms(100));
  machine_.take_actions();
  up("a");
  EXPECT_EQ(closed_by(machine_.take_actions()), Sessions{session_of("a")});
}

TEST_F(SourceSessionsTest, below_the_limit_idle_sessions_stay) {
  use("a");
  start("b");
  EXPECT_EQ(dialed(), Names{"b"});
  EXPECT_EQ(machine_.closed_idle(), 0u);
}

}  // namespace
}  // namespace mempool
