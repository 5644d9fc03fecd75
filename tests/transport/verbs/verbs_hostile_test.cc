// SPDX-License-Identifier: Apache-2.0
// Tests what a peer cannot do that has proven the token and then keeps to nothing.
#include <gtest/gtest.h>

#include <cstring>

#include "tests/transport/verbs/raw_verbs_peer.h"

namespace mempool {
namespace {

constexpr uint64_t kPeer = 0xbad;
constexpr uint64_t kSource = 0xa1;
constexpr uint64_t kTarget = 0xb2;
constexpr Slot kSlot{3, 1};

class VerbsHostile : public testing::Test {
 protected:
  void SetUp() override {
    MEMPOOL_NEEDS_RDMA();
    start({});
  }

  void start(std::map<std::string, std::string> options) {
    target_ = std::make_unique<TransportNode>(
        verbs_node(test_devices()->target, kTarget, std::move(options)));
    peer_ = std::make_unique<RawVerbsPeer>(test_devices()->source, kPeer);
  }

  uint64_t strays() const { return target_->transport().counts().strays; }

  // A peer that keeps to the rules still gets its bytes and its notification through.
  void expect_others_served() {
    TransportNode source(verbs_node(test_devices()->source, kSource));
    const std::unique_ptr<Endpoint> endpoint = source.connect(*target_);
    ASSERT_NE(endpoint, nullptr);
    ASSERT_TRUE(target_->transport().open_slot(kSource, kSlot).ok());
    std::memset(source.memory().data(), 0x5a, 100);
    const RunPair pair{TransportNode::kRegion, TransportNode::kRegion, 0, 5000, 100};
    ASSERT_TRUE(endpoint->post({Operation::kWrite, kSlot, 1, {&pair, 1}}).ok());
    ASSERT_TRUE(endpoint->notify(kSlot, 2).ok());
    const size_t before = target_->notified.size();
    ASSERT_TRUE(run_until({&source, target_.get()}, [&] {
      return source.completed(2) && target_->notified.size() > before;
    }));
    EXPECT_TRUE(source.completion_of(1).ok()) << source.completion_of(1).to_string();
    EXPECT_EQ(target_->memory()[5099], std::byte{0x5a});
  }

  std::unique_ptr<TransportNode> target_;
  std::unique_ptr<RawVerbsPeer> peer_;
};

TEST_F(VerbsHostile, what_is_no_note_ends_that_link_and_no_other) {
  const std::vector<std::byte> notes[] = {
      {},
      {std::byte{1}},
      {std::byte{9}, std::byte{1}},
      {std::byte{1}, std::byte{99}},
      encode_note(RailGoneNote{0}),
      encode_note(RailLostNote{0}),
      encode_note(AcceptedNote{1, peer_->offer().rails}),
      std::vector<std::byte>(60000, std::byte{1}),
  };
  for (const std::vector<std::byte>& note : notes) {
    peer_ = std::make_unique<RawVerbsPeer>(test_devices()->source, kPeer);
    peer_->dial(*target_);
    peer_->send(note);
    EXPECT_TRUE(peer_->run_until(*target_, [&] { return peer_->closed.has_value(); }))
        << note.size();
  }
  EXPECT_TRUE(target_->lost.empty()) << "none of them was connected";
  expect_others_served();
}

TEST_F(VerbsHostile, a_second_offer_ends_the_connection) {
  peer_->connect(*target_);
  peer_->send(encode_note(peer_->offer()));
  EXPECT_TRUE(peer_->run_until(*target_, [&] { return peer_->closed.has_value(); }));
  EXPECT_EQ(target_->lost.size(), 1u);
}

TEST_F(VerbsHostile, a_rail_that_it_has_not_cannot_be_lost) {
  peer_->connect(*target_);
  peer_->send(encode_note(RailLostNote{1}));
  EXPECT_TRUE(peer_->run_until(*target_, [&] { return peer_->closed.has_value(); }));
}

TEST_F(VerbsHostile, a_peer_that_offers_nothing_in_time_is_closed) {
  target_.reset();
  start({{"handshake_timeout_ms", "50"}});
  peer_->dial(*target_);
  EXPECT_TRUE(peer_->run_until(*target_, [&] { return peer_->closed.has_value(); }));
}

TEST_F(VerbsHostile, a_stray_notification_is_dropped_and_counted) {
  peer_->connect(*target_);
  ASSERT_TRUE(target_->transport().open_slot(kPeer, kSlot).ok());
  const Immediate strays[] = {
      {0, 1, 1, 4},  // a slot that is not open
      {0, 2, 2, 3},  // another generation
  };
  for (const Immediate& stray : strays) {
    peer_->notify(stray);
    EXPECT_EQ(peer_->ended(target_.get()), IBV_WC_SUCCESS);
  }
  ASSERT_TRUE(peer_->run_until(*target_, [&] { return this->strays() == 2; }));
  EXPECT_TRUE(target_->notified.empty());
  peer_->notify({0, 3, 1, 3});
  ASSERT_TRUE(peer_->run_until(*target_, [&] { return target_->notified.size() == 1; }));
  EXPECT_EQ(this->strays(), 2u);
}

TEST_F(VerbsHostile, a_notification_sent_twice_is_told_once) {
  peer_->connect(*target_);
  ASSERT_TRUE(target_->transport().open_slot(kPeer, kSlot).ok());
  for (const uint32_t round : {5u, 5u, 4u, 6u}) peer_->notify({0, round, 1, 3});
  for (int i = 0; i < 4; ++i) EXPECT_EQ(peer_->ended(target_.get()), IBV_WC_SUCCESS);
  // The last one is behind the others, so what is told by then is all that will be.
  ASSERT_TRUE(peer_->run_until(*target_, [&] { return target_->notified.size() >= 2; }));
  settle({target_.get()});
  EXPECT_EQ(target_->notified.size(), 2u);
}

TEST_F(VerbsHostile, receives_that_are_used_up_break_who_uses_them_up) {
  target_.reset();
  start({{"receives", "64"}});
  peer_->connect(*target_);
  // The target's loop stands still, and so posts no receive again.
  constexpr uint32_t kMany = 100;
  for (uint32_t i = 0; i < kMany; ++i) peer_->notify({0, i, 1, 9});
  ibv_wc_status status = IBV_WC_SUCCESS;
  uint32_t served = 0;
  while (status == IBV_WC_SUCCESS && served < kMany) {
    status = peer_->ended(nullptr);
    served += status == IBV_WC_SUCCESS ? 1 : 0;
  }
  EXPECT_EQ(status, IBV_WC_RNR_RETRY_EXC_ERR) << ibv_wc_status_str(status);
  EXPECT_LE(served, 64u);
  expect_others_served();
}

TEST_F(VerbsHostile, more_peers_than_there_are_receives_for_are_refused) {
  target_.reset();
  start({{"receives", "16"}});
  peer_->connect(*target_);  // is granted all of them
  TransportNode source(verbs_node(test_devices()->source, kSource));
  Status why;
  EXPECT_EQ(source.connect(*target_, &why), nullptr);
  EXPECT_EQ(why.code(), StatusCode::kResourceExhausted) << why.to_string();
  EXPECT_NE(std::string(why.message()).find("verbs.receives"), std::string::npos);
  EXPECT_TRUE(target_->lost.empty()) << "who was refused was never connected";
  peer_.reset();
  ASSERT_TRUE(run_until({target_.get()}, [&] { return !target_->lost.empty(); }));
  expect_others_served();
}

}  // namespace
}  // namespace mempool
