// SPDX-License-Identifier: Apache-2.0
// Tests that seeded runs repeat and that words for incarnations do not.
#include "core/random.h"

#include <gtest/gtest.h>

#include <set>

#include "core/clock.h"

namespace mempool {
namespace {

TEST(Random, equal_seeds_give_equal_runs) {
  Random first(7);
  Random second(7);
  Random other(8);
  const uint64_t word = first.next();
  EXPECT_EQ(word, second.next());
  EXPECT_NE(word, other.next());
}

TEST(Random, numbers_stay_in_their_bounds) {
  Random random(7);
  std::set<uint64_t> seen;
  for (int i = 0; i < 1000; ++i) {
    seen.insert(random.below(10));
    const double unit = random.unit();
    EXPECT_GE(unit, 0.0);
    EXPECT_LT(unit, 1.0);
  }
  EXPECT_EQ(seen.size(), 10u);
  EXPECT_EQ(*seen.rbegin(), 9u);
}

TEST(Random, words_from_the_kernel_are_nonzero_and_differ) {
  std::set<uint64_t> words;
  for (int i = 0; i < 100; ++i) words.insert(random_word());
  EXPECT_EQ(words.size(), 100u);
  EXPECT_FALSE(words.contains(0));
}

TEST(Clock, manual_clock_moves_only_when_told) {
  ManualClock clock;
  const TimePoint start = clock.now();
  EXPECT_EQ(clock.now(), start);
  clock.advance(std::chrono::milliseconds(5));
  EXPECT_EQ(clock.now() - start, std::chrono::milliseconds(5));
}

TEST(Clock, system_clock_never_runs_backwards) {
  const TimePoint start = system_clock().now();
  EXPECT_GE(system_clock().now(), start);
}

}  // namespace
}  // namespace mempool
