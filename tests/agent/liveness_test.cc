// SPDX-License-Identifier: Apache-2.0
// Owns the proof that a silent peer and a stuck one are found in time, and nobody else is.
#include "agent/liveness.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mempool {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr Duration kHeartbeat = milliseconds(200);
constexpr Duration kTimeout = milliseconds(2000);

class LivenessTest : public ::testing::Test {
 protected:
  TimePoint now() const { return clock_.now(); }
  void pass(Duration time) { clock_.advance(time); }

  ManualClock clock_;
  Liveness liveness_{kHeartbeat, kTimeout};
};

TEST_F(LivenessTest, nobody_to_watch_means_nothing_to_do) {
  EXPECT_EQ(liveness_.next_time(), TimePoint::max());
  EXPECT_THAT(liveness_.beats_due(now()), IsEmpty());
  EXPECT_THAT(liveness_.lost(now()), IsEmpty());
}

TEST_F(LivenessTest, heartbeat_is_due_once_an_interval) {
  liveness_.add(7, now());
  EXPECT_EQ(liveness_.next_time(), now() + kHeartbeat);
  pass(kHeartbeat - milliseconds(1));
  EXPECT_THAT(liveness_.beats_due(now()), IsEmpty());
  pass(milliseconds(1));
  EXPECT_THAT(liveness_.beats_due(now()), ElementsAre(7));
  EXPECT_THAT(liveness_.beats_due(now()), IsEmpty());
  EXPECT_EQ(liveness_.next_time(), now() + kHeartbeat);
}

TEST_F(LivenessTest, sleeping_through_intervals_owes_one_heartbeat) {
  liveness_.add(7, now());
  pass(5 * kHeartbeat);
  EXPECT_THAT(liveness_.beats_due(now()), ElementsAre(7));
  EXPECT_THAT(liveness_.beats_due(now()), IsEmpty());
}

TEST_F(LivenessTest, silent_peer_is_lost_at_the_timeout_and_once) {
  liveness_.add(7, now());
  pass(kTimeout - milliseconds(1));
  EXPECT_THAT(liveness_.lost(now()), IsEmpty());
  pass(milliseconds(1));
  EXPECT_THAT(liveness_.lost(now()), ElementsAre(7));
  EXPECT_THAT(liveness_.lost(now()), IsEmpty());
  EXPECT_EQ(liveness_.next_time(), TimePoint::max());
}

TEST_F(LivenessTest, any_message_is_a_sign_of_life) {
  liveness_.add(7, now());
  for (int i = 0; i < 10; ++i) {
    pass(kTimeout - milliseconds(1));
    liveness_.on_heard(7, now());
    EXPECT_THAT(liveness_.lost(now()), IsEmpty());
  }
}

TEST_F(LivenessTest, peer_that_counts_on_lives) {
  liveness_.add(7, now());
  for (uint64_t progress = 1; progress < 100; ++progress) {
    pass(kHeartbeat);
    liveness_.on_progress(7, progress, now());
    EXPECT_THAT(liveness_.lost(now()), IsEmpty());
  }
}

TEST_F(LivenessTest, peer_that_beats_without_counting_on_is_lost) {
  liveness_.add(7, now());
  liveness_.on_progress(7, 5, now());
  const TimePoint end = now() + kTimeout;
  while (now() + kHeartbeat < end) {
    pass(kHeartbeat);
    liveness_.on_progress(7, 5, now());
    EXPECT_THAT(liveness_.lost(now()), IsEmpty());
  }
  pass(kHeartbeat);
  liveness_.on_progress(7, 5, now());
  EXPECT_THAT(liveness_.lost(now()), ElementsAre(7));
}

TEST_F(LivenessTest, only_the_silent_one_of_several_is_lost) {
  liveness_.add(7, now());
  liveness_.add(8, now());
  pass(kTimeout / 2);
  liveness_.on_heard(8, now());
  pass(kTimeout / 2);
  EXPECT_THAT(liveness_.lost(now()), ElementsAre(7));
  EXPECT_THAT(liveness_.beats_due(now()), ElementsAre(8));
}

TEST_F(LivenessTest, next_time_is_never_past_the_next_loss) {
  Liveness rarely_beating(10 * kTimeout, kTimeout);
  rarely_beating.add(7, now());
  EXPECT_EQ(rarely_beating.next_time(), now() + kTimeout);
  pass(milliseconds(10));
  rarely_beating.on_heard(7, now());
  EXPECT_EQ(rarely_beating.next_time(), now() + kTimeout);
}

TEST_F(LivenessTest, word_of_a_removed_session_brings_it_not_back) {
  liveness_.add(7, now());
  liveness_.remove(7);
  liveness_.on_heard(7, now());
  liveness_.on_progress(7, 1, now());
  EXPECT_EQ(liveness_.next_time(), TimePoint::max());
}

}  // namespace
}  // namespace mempool
