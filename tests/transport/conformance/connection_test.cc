// SPDX-License-Identifier: Apache-2.0
// Tests what every transport owes to connections: who may connect, loss, fence and what follows.
#include <algorithm>

#include "tests/transport/conformance/conformance.h"

namespace mempool {
namespace {

class ConnectionConformance : public Conformance {
 protected:
  ConnectionConformance() : Conformance(uint64_t{4} << 20) {}

  // Try to connect by hand and give how it ended.
  Status dial(uint64_t peer, std::vector<std::byte> address) {
    Status status;
    bool done = false;
    source_->transport().connect(peer, "127.0.0.1", address,
                                 [&](Result<std::unique_ptr<Endpoint>> connected) {
                                   status = connected.status();
                                   done = true;
                                 });
    EXPECT_TRUE(run_until([&] { return done; }));
    return status;
  }
};
MEMPOOL_CONFORMANCE(ConnectionConformance);

TEST_P(ConnectionConformance, another_token_is_refused) {
  if (!GetParam().proves_token) GTEST_SKIP() << "stays inside one process";
  NodeOptions options = options_of(kSourceId, 4096);
  options.token = "another token";
  source_ = std::make_unique<TransportNode>(options);
  Status why;
  EXPECT_EQ(source_->connect(*target_, &why), nullptr);
  EXPECT_EQ(why.code(), StatusCode::kPermissionDenied) << why.to_string();
  EXPECT_TRUE(target_->lost.empty());
}

TEST_P(ConnectionConformance, another_incarnation_than_the_one_meant_is_refused) {
  EXPECT_EQ(dial(0xdead, target_->transport().address_for(kSourceId).value()).code(),
            StatusCode::kStale);
}

TEST_P(ConnectionConformance, a_malformed_address_is_refused) {
  EXPECT_EQ(dial(kTargetId, {}).code(), StatusCode::kInvalidArgument);
  std::vector<std::byte> address = target_->transport().address_for(kSourceId).value();
  address.push_back(std::byte{0});
  EXPECT_EQ(dial(kTargetId, address).code(), StatusCode::kInvalidArgument);
}

TEST_P(ConnectionConformance, a_peer_that_is_gone_is_unavailable) {
  const std::vector<std::byte> address = target_->transport().address_for(kSourceId).value();
  target_->destroy_transport();
  EXPECT_EQ(dial(kTargetId, address).code(), StatusCode::kUnavailable);
}

TEST_P(ConnectionConformance, the_target_learns_that_an_endpoint_has_closed) {
  connect();
  endpoint_->close();
  ASSERT_TRUE(run_until([&] { return !target_->lost.empty(); }));
  EXPECT_EQ(target_->lost.size(), 1u);
  EXPECT_TRUE(source_->lost.empty()) << "who closes knows it";
  EXPECT_EQ(post(Operation::kWrite, {pair(0, 0, 1)}).code(), StatusCode::kUnavailable);
  EXPECT_EQ(endpoint_->notify(kSlot, 1).code(), StatusCode::kUnavailable);
}

TEST_P(ConnectionConformance, the_source_learns_that_its_peer_has_gone) {
  connect();
  const std::vector<uint64_t> cookies = fill_pipe();
  target_->destroy_transport();
  ASSERT_TRUE(run_until([&] { return !source_->lost.empty(); }));
  EXPECT_EQ(source_->lost.size(), 1u);
  expect_ended(cookies);
  if (GetParam().may_stall) {
    EXPECT_EQ(source_->completion_of(cookies.back()).code(), StatusCode::kUnavailable);
  }
  EXPECT_EQ(post(Operation::kWrite, {pair(0, 0, 1)}).code(), StatusCode::kUnavailable);
}

TEST_P(ConnectionConformance, closing_an_endpoint_completes_its_calls) {
  if (!GetParam().peer_may_go) GTEST_SKIP() << "its library dies of a peer that goes amid writes";
  connect();
  const std::vector<uint64_t> cookies = fill_pipe();
  endpoint_.reset();
  ASSERT_TRUE(run_until_ended(cookies));
  expect_ended(cookies);
  if (GetParam().may_stall) {
    EXPECT_EQ(source_->completion_of(cookies.back()).code(), StatusCode::kUnavailable);
  }
}

TEST_P(ConnectionConformance, a_fence_is_told_even_of_a_peer_that_never_connected) {
  target_->transport().fence(0xf0f0);
  EXPECT_TRUE(target_->fenced.empty()) << "fence() may not answer from inside";
  ASSERT_TRUE(run_until([&] { return !target_->fenced.empty(); }));
  EXPECT_EQ(target_->fenced, std::vector<uint64_t>{0xf0f0});
}

TEST_P(ConnectionConformance, nothing_lands_after_the_fence) {
  connect();
  const std::vector<uint64_t> cookies = fill_pipe();
  target_->transport().fence(kSourceId);
  ASSERT_TRUE(mempool::run_until({target_.get()}, [&] { return !target_->fenced.empty(); }));
  EXPECT_EQ(target_->fenced, std::vector<uint64_t>{kSourceId});
  const std::vector<std::byte> at_fence = target_->memory();

  fill(*source_, 5);
  (void)post(Operation::kWrite, {pair(0, 0, 4096)});  // may be taken until the loss is seen
  (void)endpoint_->notify(kSlot, 999999);
  ASSERT_TRUE(run_until([&] { return !source_->lost.empty(); }));
  expect_ended(cookies);
  EXPECT_EQ(post(Operation::kWrite, {pair(0, 0, 1)}).code(), StatusCode::kUnavailable);
  EXPECT_TRUE(target_->memory() == at_fence);
  EXPECT_TRUE(target_->notified.empty());
}

TEST_P(ConnectionConformance, a_fence_closes_the_way_to_the_peer_too) {
  connect();
  source_->transport().fence(kTargetId);
  ASSERT_TRUE(run_until([&] { return !source_->fenced.empty(); }));
  EXPECT_EQ(post(Operation::kWrite, {pair(0, 0, 1)}).code(), StatusCode::kUnavailable);
}

TEST_P(ConnectionConformance, a_new_connection_after_a_fence_starts_clean) {
  connect();
  target_->transport().fence(kSourceId);
  ASSERT_TRUE(run_until([&] { return !source_->lost.empty() && !target_->fenced.empty(); }));
  endpoint_.reset();
  const std::vector<std::byte> before = target_->memory();
  endpoint_ = source_->connect(*target_);
  ASSERT_NE(endpoint_, nullptr);
  if (capabilities().target_checks) {
    ASSERT_TRUE(complete(Operation::kWrite, {pair(0, 0, 100)}).ok());
    ASSERT_TRUE(target_->transport().open_slot(kSourceId, kOtherSlot).ok());
    notify_and_wait(kOtherSlot);
    EXPECT_TRUE(target_->memory() == before) << "the slots of before the fence are closed";
    target_->transport().close_slot(kSourceId, kOtherSlot);
  }
  ASSERT_TRUE(target_->transport().open_slot(kSourceId, kSlot).ok());
  ASSERT_TRUE(complete(Operation::kWrite, {pair(0, 0, 100)}).ok());
  notify_and_wait(kSlot);
  EXPECT_TRUE(std::equal(source_->memory().begin(), source_->memory().begin() + 100,
                         target_->memory().begin()));
}

TEST_P(ConnectionConformance, two_endpoints_to_one_peer_live_and_die_apart) {
  connect();
  std::unique_ptr<Endpoint> other = source_->connect(*target_);
  ASSERT_NE(other, nullptr);
  other->close();
  other.reset();
  ASSERT_TRUE(run_until([&] { return !target_->lost.empty(); }));
  ASSERT_TRUE(complete(Operation::kWrite, {pair(0, 0, 100)}).ok());
  notify_and_wait(kSlot);
  EXPECT_EQ(target_->lost.size(), 1u);
}

TEST_P(ConnectionConformance, a_transport_can_go_while_a_connect_is_under_way) {
  bool called = false;
  source_->transport().connect(kTargetId, "127.0.0.1",
                               target_->transport().address_for(kSourceId).value(),
                               [&](Result<std::unique_ptr<Endpoint>>) { called = true; });
  source_->destroy_transport();
  settle({source_.get(), target_.get()});
  EXPECT_FALSE(called);
}

}  // namespace
}  // namespace mempool
