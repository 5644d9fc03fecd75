// SPDX-License-Identifier: Apache-2.0
// Tests what every transport owes to slots: notification after the bytes, stop, close, admission.
#include <algorithm>
#include <cstring>

#include "tests/transport/conformance/conformance.h"

namespace mempool {
namespace {

class SlotConformance : public Conformance {
 protected:
  SlotConformance() : Conformance(uint64_t{4} << 20) {}
};
MEMPOOL_CONFORMANCE(SlotConformance);

TEST_P(SlotConformance, a_slot_is_open_in_one_generation_at_a_time) {
  connect();
  Transport& target = target_->transport();
  EXPECT_EQ(target.open_slot(kSourceId, kSlot).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(target.open_slot(kSourceId, {kSlot.index, 2}).code(), StatusCode::kAlreadyExists);
  target.close_slot(kSourceId, kSlot);
  EXPECT_TRUE(target.open_slot(kSourceId, {kSlot.index, 2}).ok());
  EXPECT_TRUE(target.open_slot(0xc3, kSlot).ok()) << "another peer's slots are its own";
}

TEST_P(SlotConformance, the_bytes_have_landed_when_the_notification_comes) {
  connect();
  const uint64_t bytes = std::min<uint64_t>(capabilities().message_bytes, source_->memory().size());
  ASSERT_TRUE(post(Operation::kWrite, {pair(0, 0, bytes)}).ok());
  ASSERT_TRUE(endpoint_->notify(kSlot, 99).ok());
  ASSERT_TRUE(run_until([&] { return target_->notified.size() == endpoint_->lanes(); }));
  EXPECT_EQ(std::memcmp(target_->memory().data(), source_->memory().data(), bytes), 0);
}

TEST_P(SlotConformance, a_notification_for_a_slot_that_is_not_open_is_not_told) {
  connect();
  target_->transport().close_slot(kSourceId, kSlot);
  ASSERT_TRUE(endpoint_->notify(kSlot, 98).ok());
  ASSERT_TRUE(endpoint_->notify({kSlot.index, 7}, 99).ok());
  notify_and_wait(kOtherSlot);
  EXPECT_EQ(target_->notified.size(), endpoint_->lanes());
  EXPECT_TRUE(source_->completion_of(98).ok());
}

TEST_P(SlotConformance, a_closed_slot_is_told_no_more_even_where_the_notification_has_come) {
  connect();
  constexpr uint32_t kSteps = 20;  // more handlers than lanes and their delivery take
  for (uint32_t steps = 0; steps < kSteps; ++steps) {
    const Slot slot{9, steps};
    ASSERT_TRUE(target_->transport().open_slot(kSourceId, slot).ok());
    const uint64_t cookie = next_cookie_++;
    ASSERT_TRUE(endpoint_->notify(slot, cookie).ok());
    if (!GetParam().lands_at_once && !GetParam().flushes) {  // else the target has to answer first
      ASSERT_TRUE(mempool::run_until({source_.get()}, [&] { return source_->completed(cookie); }));
    }
    for (uint32_t step = 0; step < steps; ++step) {
      while (GetParam().flushes && source_->poll()) {
      }
      target_->step();
    }
    const auto told = [&] {
      return std::count(target_->notified.begin(), target_->notified.end(), slot);
    };
    const auto at_close = told();
    target_->transport().close_slot(kSourceId, slot);
    notify_and_wait(kOtherSlot);
    EXPECT_EQ(told(), at_close) << "closed after " << steps << " handlers";
  }
  EXPECT_EQ(std::count(target_->notified.begin(), target_->notified.end(), Slot{9, kSteps - 1}),
            endpoint_->lanes())
      << "the last one was closed too early to show anything";
}

TEST_P(SlotConformance, stop_cancels_what_has_not_begun_and_spares_other_slots) {
  connect();
  const std::vector<std::byte> before = target_->memory();
  ASSERT_TRUE(post(Operation::kWrite, {pair(0, 0, 1000)}, kSlot).ok());
  ASSERT_TRUE(post(Operation::kWrite, {pair(0, 2000, 1000)}, kOtherSlot).ok());
  ASSERT_TRUE(endpoint_->notify(kSlot, 90).ok());
  endpoint_->stop(kSlot);
  EXPECT_TRUE(source_->completions.empty()) << "stop() may not complete from inside";
  ASSERT_TRUE(endpoint_->notify(kOtherSlot, 91).ok());
  ASSERT_TRUE(run_until([&] {
    return std::count(target_->notified.begin(), target_->notified.end(), kOtherSlot) ==
               endpoint_->lanes() &&
           source_->completed(2);
  }));
  EXPECT_TRUE(source_->completion_of(2).ok());
  // A backend whose calls do not stall, or begin inside post(), has nothing left to stop.
  const bool stops =
      GetParam().begins_in_next_turn || (GetParam().may_stall && !GetParam().begins_at_post);
  const std::vector<std::byte>& expected = stops ? before : source_->memory();
  EXPECT_EQ(source_->completion_of(1).code(), stops ? StatusCode::kCancelled : StatusCode::kOk);
  EXPECT_EQ(std::memcmp(target_->memory().data(), expected.data(), 1000), 0);
  EXPECT_EQ(std::memcmp(target_->memory().data() + 2000, source_->memory().data(), 1000), 0);
}

TEST_P(SlotConformance, after_a_stopped_call_has_completed_its_source_may_be_reused) {
  if (!GetParam().may_stall) GTEST_SKIP() << "its calls end before post() returns";
  connect();
  const std::vector<std::byte> old = target_->memory();
  const std::vector<std::byte> source = source_->memory();
  const std::vector<uint64_t> cookies = fill_pipe();
  EXPECT_FALSE(source_->completed(cookies.back())) << "the pipe was not filled";
  endpoint_->stop(kSlot);
  const auto all_completed = [&] {
    return std::all_of(cookies.begin(), cookies.end(),
                       [&](uint64_t cookie) { return source_->completed(cookie); });
  };
  if (GetParam().begins_at_post) {
    ASSERT_TRUE(run_until(all_completed));
    EXPECT_TRUE(source_->completion_of(cookies.back()).ok()) << "it was begun before the stop";
  } else {
    // The target takes nothing meanwhile: the calls must end without it.
    ASSERT_TRUE(mempool::run_until({source_.get()}, all_completed));
    EXPECT_EQ(source_->completion_of(cookies.back()).code(), StatusCode::kCancelled);
  }
  std::fill(source_->memory().begin(), source_->memory().end(), std::byte{0xee});
  notify_and_wait(kOtherSlot);
  // What landed is what the source was, or what made up the rest; never what it became.
  size_t reused = 0;
  for (size_t i = 0; i < source.size(); ++i) {
    const std::byte now = target_->memory()[i];
    reused += now != source[i] && now != old[i] && now != std::byte{0};
  }
  EXPECT_EQ(reused, 0u);
}

TEST_P(SlotConformance, a_stopped_slot_can_be_followed_by_another_at_once) {
  connect();
  constexpr uint32_t kRounds = 20;
  for (uint32_t round = 0; round < kRounds; ++round) {
    if (GetParam().may_stall) fill_pipe();
    endpoint_->stop(kSlot);
    const uint64_t cookie = next_cookie_++;
    ASSERT_TRUE(run_until([&] { return endpoint_->notify(kOtherSlot, cookie).ok(); }));
    ASSERT_TRUE(run_until([&] { return source_->completed(cookie); }));
  }
  const size_t notifications = kRounds * endpoint_->lanes();
  ASSERT_TRUE(run_until([&] { return target_->notified.size() == notifications; }));
  ASSERT_TRUE(complete(Operation::kWrite, {pair(0, 0, 100)}, kOtherSlot).ok());
  notify_and_wait(kOtherSlot);
  EXPECT_EQ(std::memcmp(target_->memory().data(), source_->memory().data(), 100), 0);
}

TEST_P(SlotConformance, nothing_lands_in_a_slot_that_is_not_open) {
  if (!capabilities().target_checks) GTEST_SKIP() << "does not claim target_checks";
  connect();
  const std::vector<std::byte> before = target_->memory();
  target_->transport().close_slot(kSourceId, kSlot);
  for (const Slot slot : {kSlot, Slot{kOtherSlot.index, 2}, Slot{1000000, 1}}) {
    EXPECT_TRUE(complete(Operation::kWrite, {pair(0, 0, 100000)}, slot).ok());
  }
  notify_and_wait(kOtherSlot);
  EXPECT_TRUE(target_->memory() == before);
  EXPECT_TRUE(target_->lost.empty()) << "late frames of a closed slot are no offence";
}

TEST_P(SlotConformance, a_read_of_a_slot_that_is_not_open_is_cancelled) {
  if (!capabilities().target_checks) GTEST_SKIP() << "does not claim target_checks";
  connect();
  const std::vector<std::byte> before = source_->memory();
  target_->transport().close_slot(kSourceId, kSlot);
  EXPECT_EQ(complete(Operation::kRead, {pair(0, 0, 1000)}).code(), StatusCode::kCancelled);
  EXPECT_TRUE(source_->memory() == before);
}

TEST_P(SlotConformance, closing_a_slot_in_the_middle_of_a_call_discards_the_rest) {
  if (!capabilities().target_checks) GTEST_SKIP() << "does not claim target_checks";
  connect();
  const std::vector<uint64_t> cookies = fill_pipe();
  while (target_->poll()) {
  }
  target_->transport().close_slot(kSourceId, kSlot);
  const std::vector<std::byte> at_close = target_->memory();
  for (std::byte& byte : source_->memory()) byte = ~byte;
  notify_and_wait(kOtherSlot);
  EXPECT_TRUE(target_->memory() == at_close);
  EXPECT_TRUE(source_->completion_of(cookies.back()).ok());
}

TEST_P(SlotConformance, closing_a_slot_in_the_middle_of_a_read_cancels_it) {
  if (capabilities().reads_at_post) GTEST_SKIP() << "claims reads_at_post";
  if (!capabilities().target_checks) GTEST_SKIP() << "does not claim target_checks";
  connect();
  const uint64_t bytes = std::min<uint64_t>(capabilities().message_bytes, source_->memory().size());
  std::vector<uint64_t> cookies;
  while (post(Operation::kRead, {pair(0, 0, bytes)}).ok()) cookies.push_back(next_cookie_ - 1);
  while (source_->poll()) {
  }
  while (target_->poll()) {  // sends replies until the socket is full
  }
  target_->transport().close_slot(kSourceId, kSlot);
  ASSERT_TRUE(run_until([&] { return source_->completed(cookies.back()); }));
  EXPECT_EQ(source_->completion_of(cookies.back()).code(), StatusCode::kCancelled);
  size_t cancelled = 0;
  for (const uint64_t cookie : cookies) {
    const Status status = source_->completion_of(cookie);
    cancelled += status.code() == StatusCode::kCancelled;
    EXPECT_TRUE(status.ok() || status.code() == StatusCode::kCancelled) << status.to_string();
  }
  EXPECT_GT(cancelled, 1u);
  EXPECT_TRUE(source_->lost.empty());
}

TEST_P(SlotConformance, a_stopped_read_lands_no_more) {
  if (capabilities().reads_at_post) GTEST_SKIP() << "claims reads_at_post";
  connect();
  const uint64_t bytes = std::min<uint64_t>(capabilities().message_bytes, source_->memory().size());
  std::vector<uint64_t> cookies;
  while (post(Operation::kRead, {pair(0, 0, bytes)}).ok()) cookies.push_back(next_cookie_ - 1);
  while (source_->poll() || target_->poll()) {
    if (source_->completed(cookies.front())) break;  // some have come, more are on the way
  }
  endpoint_->stop(kSlot);
  // What has begun lands until it completes; what has not, and what is framed, no more from here.
  const auto read = [&] { return source_->completed(cookies.back()); };
  if (GetParam().begins_at_post) {
    ASSERT_TRUE(run_until(read));
  }
  const std::vector<std::byte> at_stop = source_->memory();
  fill(*target_, 77);
  ASSERT_TRUE(run_until(read));
  settle({source_.get(), target_.get()});
  EXPECT_TRUE(source_->memory() == at_stop);
  EXPECT_EQ(source_->completion_of(cookies.back()).code(),
            GetParam().begins_at_post ? StatusCode::kOk : StatusCode::kCancelled);
}

TEST_P(SlotConformance, a_range_that_is_not_admitted_ends_the_connection_and_nothing_lands) {
  if (!capabilities().target_checks) GTEST_SKIP() << "does not claim target_checks";
  for (const Operation operation : {Operation::kWrite, Operation::kRead}) {
    if (operation == Operation::kRead && capabilities().reads_at_post) continue;
    endpoint_.reset();
    source_ = std::make_unique<TransportNode>(options_of(kSourceId, uint64_t{4} << 20));
    target_ = std::make_unique<TransportNode>(options_of(kTargetId, uint64_t{4} << 20));
    connect();
    fill(*source_, 1);
    const std::vector<std::byte> there = target_->memory();
    const std::vector<std::byte> here = source_->memory();
    target_->admission = [](Slot slot, Operation, uint32_t region, uint64_t offset,
                            uint64_t bytes) {
      EXPECT_EQ(region, TransportNode::kRegion);
      return slot == kSlot && offset + bytes <= 8192;
    };
    ASSERT_TRUE(post(operation, {pair(0, 0, 4096), pair(9000, 8000, 193)}).ok());
    ASSERT_TRUE(run_until([&] { return !target_->lost.empty() && !source_->lost.empty(); }));
    EXPECT_EQ(target_->lost[0].code(), StatusCode::kPermissionDenied);
    EXPECT_TRUE(target_->memory() == there);
    EXPECT_TRUE(source_->memory() == here);
    EXPECT_EQ(post(operation, {pair(0, 0, 1)}).code(), StatusCode::kUnavailable);
  }
}

TEST_P(SlotConformance, admission_is_asked_for_each_range) {
  if (!capabilities().target_checks) GTEST_SKIP() << "does not claim target_checks";
  connect();
  uint64_t asked = 0;
  target_->admission = [&](Slot, Operation operation, uint32_t, uint64_t, uint64_t bytes) {
    EXPECT_EQ(operation, Operation::kWrite);
    asked += bytes;
    return true;
  };
  ASSERT_TRUE(complete(Operation::kWrite, {pair(0, 0, 100), pair(200, 300, 17)}).ok());
  notify_and_wait(kSlot);
  EXPECT_EQ(asked, 117u);
}

TEST_P(SlotConformance, neighbouring_regions_in_one_call_are_both_in_use) {
  if (!GetParam().may_stall && !GetParam().begins_in_next_turn) {
    GTEST_SKIP() << "its calls end before post() returns";
  }
  if (GetParam().lands_at_once) GTEST_SKIP() << "a source is a descriptor of its own there";
  if (!takes(Operation::kWrite, 2, 1)) GTEST_SKIP() << "a call names one piece";
  connect();
  constexpr uint32_t kLeft = 20;
  constexpr uint32_t kRight = 21;
  std::byte* const base = source_->memory().data();
  Transport& source = source_->transport();
  ASSERT_TRUE(source.register_region({kLeft, MemoryKind::kHost, false, base, 1000}).ok());
  ASSERT_TRUE(source.register_region({kRight, MemoryKind::kHost, false, base + 1000, 1000}).ok());
  const RunPair left{kLeft, TransportNode::kRegion, 0, 0, 1000};
  const RunPair right{kRight, TransportNode::kRegion, 0, 1000, 1000};
  for (const Operation operation : {Operation::kWrite, Operation::kRead}) {
    const uint64_t cookie = next_cookie_;
    ASSERT_TRUE(post(operation, {left, right}).ok());
    EXPECT_EQ(source.deregister_region(kLeft).code(), StatusCode::kResourceExhausted);
    EXPECT_EQ(source.deregister_region(kRight).code(), StatusCode::kResourceExhausted);
    ASSERT_TRUE(run_until([&] { return source_->completed(cookie); }));
  }
  EXPECT_TRUE(source.deregister_region(kLeft).ok());
  EXPECT_TRUE(source.deregister_region(kRight).ok());
}

TEST_P(SlotConformance, a_region_in_use_is_not_taken_away) {
  if (!GetParam().may_stall) GTEST_SKIP() << "its calls end before post() returns";
  connect();
  fill_pipe();
  while (target_->poll()) {
  }
  EXPECT_EQ(source_->transport().deregister_region(TransportNode::kRegion).code(),
            StatusCode::kResourceExhausted);
  if (capabilities().target_checks && !GetParam().lands_at_once) {
    EXPECT_EQ(target_->transport().deregister_region(TransportNode::kRegion).code(),
              StatusCode::kResourceExhausted);
  }
  endpoint_->stop(kSlot);
  notify_and_wait(kOtherSlot);
  EXPECT_TRUE(source_->transport().deregister_region(TransportNode::kRegion).ok());
  EXPECT_TRUE(target_->transport().deregister_region(TransportNode::kRegion).ok());
}

}  // namespace
}  // namespace mempool
