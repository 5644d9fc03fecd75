// SPDX-License-Identifier: Apache-2.0
// Tests that each fault of a plan happens, and only that.
#include "transport/fault/fault_transport.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "tests/transport/transport_node.h"
#include "transport/local/local_transport.h"
#include "transport/tcp/tcp_transport.h"

namespace mempool {
namespace {

constexpr uint64_t kBytes = 4096;
constexpr Slot kSlot{3, 1};

class Fault : public testing::Test {
 protected:
  void start(const FaultPlan& plan, TransportRegistry::Factory inner = &LocalTransport::open) {
    NodeOptions options;
    options.region_bytes = kBytes;
    options.incarnation = 2;
    options.factory = FaultTransport::around(inner, plan);
    target_ = std::make_unique<TransportNode>(options);
    options.incarnation = 1;
    source_ = std::make_unique<TransportNode>(options);
    for (size_t i = 0; i < kBytes; ++i) source_->memory()[i] = static_cast<std::byte>(i * 7 + 1);
    endpoint_ = source_->connect(*target_);
    ASSERT_NE(endpoint_, nullptr);
    ASSERT_TRUE(target_->transport().open_slot(1, kSlot).ok());
  }

  Status post(uint64_t cookie, uint64_t bytes = kBytes) {
    const RunPair pair{TransportNode::kRegion, TransportNode::kRegion, 0, 0, bytes};
    return endpoint_->post({Operation::kWrite, kSlot, cookie, {&pair, 1}});
  }
  bool wait(uint64_t cookie) {
    return run_until({source_.get(), target_.get()}, [&] { return source_->completed(cookie); });
  }
  int flipped_bits() const {
    int bits = 0;
    for (size_t i = 0; i < kBytes; ++i) {
      bits += std::popcount(static_cast<unsigned>(source_->memory()[i] ^ target_->memory()[i]));
    }
    return bits;
  }

  std::unique_ptr<TransportNode> target_;
  std::unique_ptr<TransportNode> source_;
  std::unique_ptr<Endpoint> endpoint_;
};

TEST_F(Fault, every_nth_call_fails_and_moves_nothing) {
  start({.fail_every = 3});
  for (uint64_t cookie = 1; cookie <= 9; ++cookie) {
    std::fill(target_->memory().begin(), target_->memory().end(), std::byte{0});
    ASSERT_TRUE(post(cookie).ok());
    ASSERT_TRUE(wait(cookie));
    EXPECT_EQ(source_->completion_of(cookie).code(),
              cookie % 3 == 0 ? StatusCode::kUnavailable : StatusCode::kOk);
    EXPECT_EQ(flipped_bits() == 0, cookie % 3 != 0);
  }
}

TEST_F(Fault, a_corrupted_write_has_one_bit_flipped_and_its_source_none) {
  start({.corrupt = 1});
  const std::vector<std::byte> before = source_->memory();
  for (uint64_t cookie = 1; cookie <= 5; ++cookie) {
    ASSERT_TRUE(post(cookie).ok());
    ASSERT_TRUE(wait(cookie));
    EXPECT_TRUE(source_->completion_of(cookie).ok());
    EXPECT_EQ(flipped_bits(), 1);
  }
  EXPECT_EQ(source_->memory(), before);
}

TEST_F(Fault, a_truncated_write_lacks_its_last_byte_and_says_nothing) {
  start({.truncate = 1});
  ASSERT_TRUE(post(1).ok());
  ASSERT_TRUE(wait(1));
  EXPECT_TRUE(source_->completion_of(1).ok());
  EXPECT_EQ(target_->memory().back(), std::byte{0});
  target_->memory().back() = source_->memory().back();
  EXPECT_EQ(flipped_bits(), 0);
  ASSERT_TRUE(post(2, 1).ok());
  ASSERT_TRUE(wait(2));
  EXPECT_TRUE(source_->completion_of(2).ok()) << "a single byte that never arrives";
}

TEST_F(Fault, a_dropped_notification_is_not_told_though_it_was_sent) {
  start({.drop_notification = 1});
  ASSERT_TRUE(endpoint_->notify(kSlot, 1).ok());
  ASSERT_TRUE(wait(1));
  settle({source_.get(), target_.get()});
  EXPECT_TRUE(source_->completion_of(1).ok());
  EXPECT_TRUE(target_->notified.empty());
}

TEST_F(Fault, nothing_overtakes_a_delayed_call) {
  start({.delay = 0.5, .delay_most = std::chrono::milliseconds(2)});
  for (uint64_t cookie = 1; cookie <= 40; ++cookie) {
    source_->memory()[0] = static_cast<std::byte>(cookie);
    ASSERT_TRUE((cookie % 10 == 0 ? endpoint_->notify(kSlot, cookie) : post(cookie)).ok());
  }
  ASSERT_TRUE(wait(40));
  ASSERT_EQ(source_->completions.size(), 40u);
  for (uint64_t i = 0; i < 40; ++i) EXPECT_EQ(source_->completions[i].cookie, i + 1);
  ASSERT_TRUE(run_until({target_.get()}, [&] { return target_->notified.size() == 4u; }));
}

TEST_F(Fault, a_delayed_call_is_cancelled_by_a_stop) {
  start({.delay = 1, .delay_most = std::chrono::hours(1)});
  ASSERT_TRUE(post(1).ok());
  ASSERT_TRUE(post(2).ok());
  endpoint_->stop(kSlot);
  ASSERT_TRUE(wait(2));
  EXPECT_EQ(source_->completion_of(1).code(), StatusCode::kCancelled);
  EXPECT_EQ(source_->completion_of(2).code(), StatusCode::kCancelled);
  EXPECT_EQ(target_->memory()[0], std::byte{0});
}

TEST_F(Fault, a_delayed_call_ends_with_its_endpoint) {
  start({.delay = 1, .delay_most = std::chrono::hours(1)});
  ASSERT_TRUE(post(1).ok());
  endpoint_.reset();
  ASSERT_TRUE(wait(1));
  EXPECT_EQ(source_->completion_of(1).code(), StatusCode::kUnavailable);
}

TEST_F(Fault, delayed_calls_fill_the_pipe_as_others_do) {
  start({.delay = 1, .delay_most = std::chrono::hours(1)});
  const uint32_t most = source_->capabilities().calls_in_flight;
  for (uint32_t i = 1; i <= most; ++i) ASSERT_TRUE(post(i).ok());
  EXPECT_EQ(post(most + 1).code(), StatusCode::kResourceExhausted);
}

TEST_F(Fault, a_late_write_lands_again_after_the_stop_where_the_backend_cannot_check) {
  start({.land_late = 1});
  ASSERT_TRUE(post(1).ok());
  ASSERT_TRUE(wait(1));
  endpoint_->stop(kSlot);
  target_->transport().close_slot(1, kSlot);
  std::fill(target_->memory().begin(), target_->memory().end(), std::byte{0});
  ASSERT_TRUE(run_until({source_.get(), target_.get()}, [&] { return flipped_bits() == 0; }));
  EXPECT_EQ(source_->completions.size(), 1u) << "nobody posted the late one";
}

TEST_F(Fault, a_late_write_lands_nowhere_where_the_target_checks) {
  start({.land_late = 1}, &TcpTransport::open);
  ASSERT_TRUE(post(1).ok());
  ASSERT_TRUE(endpoint_->notify(kSlot, 2).ok());
  ASSERT_TRUE(
      run_until({source_.get(), target_.get()}, [&] { return !target_->notified.empty(); }));
  const CallCounts before = source_->transport().counts();
  endpoint_->stop(kSlot);
  target_->transport().close_slot(1, kSlot);
  std::fill(target_->memory().begin(), target_->memory().end(), std::byte{0});
  ASSERT_TRUE(run_until({source_.get(), target_.get()}, [&] {
    return source_->transport().counts().network_calls > before.network_calls;
  }));
  ASSERT_TRUE(target_->transport().open_slot(1, {4, 1}).ok());
  ASSERT_TRUE(endpoint_->notify({4, 1}, 3).ok());
  ASSERT_TRUE(
      run_until({source_.get(), target_.get()}, [&] { return target_->notified.size() == 2u; }));
  EXPECT_EQ(target_->memory()[0], std::byte{0});
}

TEST_F(Fault, equal_seeds_give_equal_faults) {
  std::vector<std::vector<std::byte>> results;
  for (int run = 0; run < 2; ++run) {
    start({.seed = 42, .corrupt = 0.5});
    std::vector<std::byte> seen;
    for (uint64_t cookie = 1; cookie <= 20; ++cookie) {
      ASSERT_TRUE(post(cookie).ok());
      ASSERT_TRUE(wait(cookie));
      seen.insert(seen.end(), target_->memory().begin(), target_->memory().end());
    }
    results.push_back(std::move(seen));
    endpoint_.reset();
    source_.reset();
    target_.reset();
  }
  EXPECT_TRUE(results[0] == results[1]);
}

}  // namespace
}  // namespace mempool
