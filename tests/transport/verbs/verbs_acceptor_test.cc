// SPDX-License-Identifier: Apache-2.0
// Tests the dialing end against an acceptor that sends what and when it likes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "tests/transport/verbs/raw_verbs_acceptor.h"
#include "tests/transport/verbs/raw_verbs_peer.h"

namespace mempool {
namespace {

constexpr uint64_t kSource = 0xa1;
constexpr uint64_t kTarget = 0xb2;
constexpr uint64_t kPiece = uint64_t{16} << 10;
constexpr uint16_t kNotifications = 16;

class VerbsAcceptor : public testing::Test {
 protected:
  void SetUp() override {
    MEMPOOL_NEEDS_RDMA();
    start(test_devices()->source, test_devices()->target, {});
  }

  void start(const std::string& here, const std::string& there,
             std::map<std::string, std::string> options) {
    options.emplace("queue_pairs", "1");
    source_ = std::make_unique<TransportNode>(verbs_node(here, kSource, std::move(options)));
    acceptor_ = std::make_unique<RawVerbsAcceptor>(there, kTarget, 16 * kPiece);
    acceptor_->dialed_by(*source_);
  }

  bool run_until(const std::function<bool()>& condition) { return acceptor_->run_until(condition); }

  void connect() {
    acceptor_->send(AcceptedNote{kNotifications, acceptor_->accept()});
    ASSERT_TRUE(run_until([&] { return acceptor_->connected.has_value(); }));
    ASSERT_TRUE(acceptor_->connected->ok()) << acceptor_->connected->to_string();
    ASSERT_TRUE(acceptor_->endpoint->import_key(TransportNode::kRegion, acceptor_->key()).ok());
  }

  // Post a write of the piece of that number, which has bytes of its own.
  void write(uint64_t piece) {
    std::ranges::fill(source_->memory().subspan(piece * kPiece, kPiece), byte_of(piece));
    const RunPair pair{TransportNode::kRegion, TransportNode::kRegion, piece * kPiece,
                       piece * kPiece, kPiece};
    ASSERT_TRUE(acceptor_->endpoint->post({Operation::kWrite, {1, 1}, piece, {&pair, 1}}).ok());
  }
  bool has_come(uint64_t piece) const {
    const auto bytes = std::span(acceptor_->memory).subspan(piece * kPiece, kPiece);
    return std::ranges::count(bytes, byte_of(piece)) == static_cast<ptrdiff_t>(kPiece);
  }
  static std::byte byte_of(uint64_t piece) { return static_cast<std::byte>(piece + 1); }

  // The connection is not made, and this is why.
  void expect_refused(StatusCode code) {
    ASSERT_TRUE(run_until([&] { return acceptor_->connected.has_value(); }));
    EXPECT_EQ(acceptor_->connected->code(), code) << acceptor_->connected->to_string();
    EXPECT_TRUE(source_->lost.empty());
  }
  // The connection was made, and ends.
  void expect_lost() {
    ASSERT_TRUE(run_until([&] { return !source_->lost.empty(); }));
    EXPECT_EQ(source_->lost.size(), 1u);
  }

  std::unique_ptr<TransportNode> source_;
  std::unique_ptr<RawVerbsAcceptor> acceptor_;
};

TEST_F(VerbsAcceptor, its_reason_to_refuse_is_told) {
  acceptor_->send(RefusedNote{resource_exhausted("no\nroom")});
  expect_refused(StatusCode::kResourceExhausted);
  EXPECT_NE(acceptor_->connected->to_string().find("no?room"), std::string::npos);
}

TEST_F(VerbsAcceptor, more_rails_than_were_offered_are_refused) {
  std::vector<RailAddress> rails = acceptor_->accept();
  rails.push_back(rails.front());
  acceptor_->send(AcceptedNote{kNotifications, rails});
  expect_refused(StatusCode::kInvalidArgument);
}

TEST_F(VerbsAcceptor, another_number_of_queue_pairs_is_refused) {
  std::vector<RailAddress> rails = acceptor_->accept();
  rails.front().queues.push_back(rails.front().queues.front());
  acceptor_->send(AcceptedNote{kNotifications, rails});
  expect_refused(StatusCode::kInvalidArgument);
}

TEST_F(VerbsAcceptor, queue_pairs_that_come_again_end_the_connection) {
  connect();
  acceptor_->send(AcceptedNote{kNotifications, {acceptor_->accept()}});
  expect_lost();
}

TEST_F(VerbsAcceptor, a_rail_that_was_not_lost_is_not_gone) {
  connect();
  acceptor_->send(RailGoneNote{0});
  expect_lost();
}

TEST_F(VerbsAcceptor, one_that_does_not_answer_is_given_up) {
  acceptor_.reset();
  source_.reset();
  start(test_devices()->source, test_devices()->target, {{"handshake_timeout_ms", "50"}});
  expect_refused(StatusCode::kUnavailable);
}

/// Two rails, of which the first one's cable is cut before anything moves. Thread: confined.
class VerbsCutRail : public VerbsAcceptor {
 protected:
  void SetUp() override {
    const char* const rails = std::getenv("MEMPOOL_RDMA_RAILS");
    if (rails == nullptr) GTEST_SKIP() << "no two pairs of RDMA devices";
    const std::string both = rails;
    // Short, so that a dead cable is found out in tenths of a second.
    start(both.substr(0, both.find('/')), both.substr(both.find('/') + 1),
          {{"timeout", "14"}, {"retries", "3"}, {"handshake_timeout_ms", "3000"}});
    connect();
    ASSERT_EQ(acceptor_->endpoint->lanes(), 2u);
    set_cable("down");
    write(0);  // over the first rail, where it waits
    write(1);  // over the second
    ASSERT_TRUE(run_until([&] { return acceptor_->has<RailLostNote>(); }));
  }
  void TearDown() override {
    if (source_) set_cable("up");
  }

  static void set_cable(const std::string& state) {
    EXPECT_EQ(std::system(("ip link set vb0 " + state).c_str()), 0);
  }
};

TEST_F(VerbsCutRail, what_it_had_is_sent_again_only_when_its_other_end_is_broken) {
  write(2);  // after all that would have been sent again by now
  ASSERT_TRUE(run_until([&] { return source_->completed(2); }));
  EXPECT_FALSE(source_->completed(0));
  EXPECT_FALSE(has_come(0));
  acceptor_->break_rail(0);
  acceptor_->send(RailGoneNote{0});
  ASSERT_TRUE(run_until([&] { return source_->completed(0); }));
  EXPECT_TRUE(source_->completion_of(0).ok()) << source_->completion_of(0).to_string();
  for (const uint64_t piece : {0, 1, 2}) EXPECT_TRUE(has_come(piece)) << piece;
}

TEST_F(VerbsCutRail, an_end_that_is_never_broken_ends_the_connection) {
  expect_lost();
  EXPECT_EQ(source_->completion_of(0).code(), StatusCode::kUnavailable);
  EXPECT_FALSE(has_come(0));
}

}  // namespace
}  // namespace mempool
