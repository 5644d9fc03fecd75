// SPDX-License-Identifier: Apache-2.0
// Tests the search for runs of free blocks, at the edges of words and of the map.
#include "core/free_map.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "core/random.h"

namespace mempool {
namespace {

std::vector<uint32_t> take(FreeMap& map, uint32_t count,
                           std::optional<uint32_t> after = std::nullopt) {
  std::vector<uint32_t> out;
  map.take(count, after, out);
  return out;
}

std::vector<uint32_t> run(uint32_t first, uint32_t count) {
  std::vector<uint32_t> out(count);
  std::iota(out.begin(), out.end(), first);
  return out;
}

TEST(FreeMap, starts_with_every_block_free_and_no_other) {
  for (const uint32_t blocks : {1u, 63u, 64u, 65u, 4096u, 4097u, 9000u}) {
    FreeMap map(blocks);
    EXPECT_EQ(map.count(), blocks);
    EXPECT_EQ(take(map, blocks), run(0, blocks));
    EXPECT_EQ(map.count(), 0u);
  }
}

TEST(FreeMap, gives_neighbours_across_words) {
  FreeMap map(1000);
  EXPECT_EQ(take(map, 50), run(0, 50));
  EXPECT_EQ(take(map, 200), run(50, 200));
}

TEST(FreeMap, goes_on_behind_the_last_block_of_the_caller) {
  FreeMap map(1000);
  take(map, 100);
  EXPECT_EQ(take(map, 3, 499), run(500, 3));
  EXPECT_EQ(take(map, 3, 502), run(503, 3));
  EXPECT_EQ(take(map, 2, 50), run(100, 2)) << "51 is taken, so the next free ones serve";
}

TEST(FreeMap, wraps_at_the_end) {
  FreeMap map(130);
  EXPECT_EQ(take(map, 1, 128), run(129, 1));
  EXPECT_EQ(take(map, 2, 129), run(0, 2));
  EXPECT_EQ(take(map, 1, UINT32_MAX), run(2, 1));
}

TEST(FreeMap, finds_the_one_block_behind_its_own_word) {
  FreeMap map(128);
  take(map, 128);
  map.give(3);
  EXPECT_EQ(take(map, 1, 10), run(3, 1));
}

TEST(FreeMap, goes_forward_before_it_takes_what_lies_behind) {
  FreeMap map(256);
  take(map, 256);
  map.give(3);
  map.give(200);
  EXPECT_EQ(take(map, 1, 10), run(200, 1));
}

TEST(FreeMap, goes_on_where_the_last_call_stopped) {
  FreeMap map(256);
  take(map, 5);
  map.give(0);
  EXPECT_EQ(take(map, 2), run(5, 2));
}

TEST(FreeMap, skips_long_taken_stretches) {
  FreeMap map(64 * 64 * 3);
  take(map, 64 * 64 * 3);
  map.give(12000);
  map.give(7);
  EXPECT_EQ(take(map, 2, 100), (std::vector<uint32_t>{12000, 7}));
}

TEST(FreeMap, appends_to_what_the_list_holds) {
  FreeMap map(10);
  std::vector<uint32_t> out = {99};
  map.take(2, std::nullopt, out);
  EXPECT_EQ(out, (std::vector<uint32_t>{99, 0, 1}));
}

TEST(FreeMap, agrees_with_a_plain_set_over_random_takes_and_gives) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Random random(seed);
    const uint32_t blocks = static_cast<uint32_t>(1 + random.below(5000));
    FreeMap map(blocks);
    std::set<uint32_t> taken;
    for (int step = 0; step < 300; ++step) {
      const uint32_t count = static_cast<uint32_t>(random.below(map.count() + 1) / 3);
      const uint32_t after = static_cast<uint32_t>(random.below(blocks));
      for (const uint32_t index : take(map, count, after)) {
        ASSERT_LT(index, blocks);
        ASSERT_TRUE(taken.insert(index).second) << index << " was given twice";
      }
      for (auto it = taken.begin(); it != taken.end();) {
        const bool keep = random.chance(0.6);
        if (!keep) map.give(*it);
        it = keep ? std::next(it) : taken.erase(it);
      }
      ASSERT_EQ(map.count(), blocks - taken.size());
      for (uint32_t i = 0; i < blocks; i += 17) ASSERT_EQ(map.is_free(i), !taken.contains(i));
    }
  }
}

}  // namespace
}  // namespace mempool
