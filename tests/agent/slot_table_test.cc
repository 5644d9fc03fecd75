// SPDX-License-Identifier: Apache-2.0
// Owns the proof that a slot admits its own blocks' bytes and no other byte.
#include "agent/slot_table.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/agent/machine_parts.h"

namespace mempool {
namespace {

constexpr SessionId kSession = 2;

std::vector<BlockAddress> addresses(const BlockPool& pool, std::initializer_list<uint32_t> blocks) {
  std::vector<BlockAddress> result;
  for (const uint32_t block : blocks) result.push_back(pool.address(block));
  return result;
}

/// Every single byte of every region is asked for, and answered by where its block is.
void expect_admits_exactly(const BlockPool& pool, const SlotTable& table, Slot slot,
                           const std::set<uint32_t>& blocks) {
  for (uint32_t region = 0; region < pool.segments().all().size(); ++region) {
    const PoolSegment& segment = *pool.segments().find_region(region);
    std::set<uint64_t> own;
    for (const uint32_t block : blocks) {
      if (block < segment.first_block || block >= segment.first_block + segment.blocks) continue;
      for (uint32_t layer = 0; layer < segment.layout.layers; ++layer) {
        for (uint32_t part = 0; part < segment.layout.parts; ++part) {
          const uint64_t piece =
              segment.layout.piece_offset(block - segment.first_block, layer, part);
          for (uint64_t i = 0; i < segment.layout.piece_bytes; ++i) own.insert(piece + i);
        }
      }
    }
    for (uint64_t offset = 0; offset < segment.memory.bytes; ++offset) {
      ASSERT_EQ(table.admits(kSession, slot, Operation::kWrite, region, offset, 1),
                own.contains(offset))
          << "region " << region << " offset " << offset;
    }
  }
}

TEST(SlotTable, admits_each_byte_of_its_blocks_and_no_other_where_parts_lie_apart) {
  const auto pool = tiny_pool(1, {4, 3}, BlockForm::kDiscrete);
  SlotTable table(*pool);
  const Slot slot = table.open(kSession, 1, addresses(*pool, {1, 2, 5}));
  expect_admits_exactly(*pool, table, slot, {1, 2, 5});
}

TEST(SlotTable, admits_each_byte_of_its_blocks_and_no_other_where_blocks_lie_in_one_run) {
  const auto pool = tiny_pool(1, {4, 3}, BlockForm::kAggregated);
  SlotTable table(*pool);
  const Slot slot = table.open(kSession, 1, addresses(*pool, {0, 3, 6}));
  expect_admits_exactly(*pool, table, slot, {0, 3, 6});
}

TEST(SlotTable, admits_a_run_over_neighbours_and_refuses_one_that_leaves_them) {
  const auto pool = tiny_pool(1, {4}, BlockForm::kDiscrete);
  SlotTable table(*pool);
  const Slot slot = table.open(kSession, 1, addresses(*pool, {1, 2}));
  const uint64_t piece = pool->segments().all()[0]->layout.piece_bytes;
  EXPECT_TRUE(table.admits(kSession, slot, Operation::kWrite, 0, piece, 2 * piece));
  EXPECT_FALSE(table.admits(kSession, slot, Operation::kWrite, 0, piece, 2 * piece + 1));
  EXPECT_FALSE(table.admits(kSession, slot, Operation::kWrite, 0, piece - 1, 2));
}

TEST(SlotTable, refuses_a_run_from_one_parts_array_into_a_block_of_another_transfer) {
  const auto pool = tiny_pool(1, {2}, BlockForm::kDiscrete);
  SlotTable table(*pool);
  const Slot slot = table.open(kSession, 1, addresses(*pool, {1}));
  const uint64_t array = pool->segments().all()[0]->layout.piece_bytes * 2;
  EXPECT_TRUE(table.admits(kSession, slot, Operation::kWrite, 0, array / 2, array / 2));
  EXPECT_FALSE(table.admits(kSession, slot, Operation::kWrite, 0, array / 2, array / 2 + 1));
}

TEST(SlotTable, refuses_ranges_outside_of_every_region) {
  const auto pool = tiny_pool(1, {2});
  SlotTable table(*pool);
  const Slot slot = table.open(kSession, 1, addresses(*pool, {0, 1}));
  EXPECT_FALSE(table.admits(kSession, slot, Operation::kWrite, 1, 0, 1));
  EXPECT_FALSE(
      table.admits(kSession, slot, Operation::kWrite, 0, pool->block_bytes() * pool->blocks(), 1));
  EXPECT_FALSE(table.admits(kSession, slot, Operation::kWrite, 0, 1, UINT64_MAX));
  EXPECT_FALSE(table.admits(kSession, slot, Operation::kWrite, 0, UINT64_MAX, 2));
  EXPECT_FALSE(table.admits(kSession, slot, Operation::kWrite, 0, 0, 0));
}

TEST(SlotTable, a_lease_admits_reads_of_its_blocks_only_and_shares_them) {
  const auto pool = tiny_pool(1);
  SlotTable table(*pool);
  const auto blocks = addresses(*pool, {2, 0});
  const Slot first = table.lease(kSession, 1, blocks);
  const Slot second = table.lease(kSession, 2, blocks);
  const uint64_t piece = pool->segments().all().front()->layout.piece_bytes;
  for (const Slot slot : {first, second}) {
    EXPECT_TRUE(table.admits(kSession, slot, Operation::kRead, 0, 2 * piece, piece));
    EXPECT_FALSE(table.admits(kSession, slot, Operation::kRead, 0, piece, piece));
    EXPECT_FALSE(table.admits(kSession, slot, Operation::kWrite, 0, 0, piece));
    EXPECT_FALSE(table.admits(kSession + 1, slot, Operation::kRead, 0, 0, piece));
  }
  const auto written = addresses(*pool, {1});
  const Slot write = table.open(kSession, 3, written);
  EXPECT_FALSE(table.admits(kSession, write, Operation::kRead, 0, piece, piece));
  table.close(first, {});
  EXPECT_FALSE(table.admits(kSession, first, Operation::kRead, 0, 0, piece));
  EXPECT_TRUE(table.admits(kSession, second, Operation::kRead, 0, 0, piece));
}

TEST(SlotTable, a_slot_is_its_own_sessions_only) {
  const auto pool = tiny_pool(1);
  SlotTable table(*pool);
  const Slot slot = table.open(kSession, 1, addresses(*pool, {0}));
  EXPECT_FALSE(table.admits(kSession + 1, slot, Operation::kWrite, 0, 0, 1));
}

TEST(SlotTable, a_closed_slot_admits_nothing_even_when_its_place_is_used_again) {
  const auto pool = tiny_pool(1);
  SlotTable table(*pool);
  const auto blocks = addresses(*pool, {0});
  const Slot first = table.open(kSession, 1, blocks);
  table.close(first, blocks);
  EXPECT_FALSE(table.admits(kSession, first, Operation::kWrite, 0, 0, 1));

  const Slot second = table.open(kSession, 2, blocks);
  EXPECT_EQ(second.index, first.index);
  EXPECT_FALSE(table.admits(kSession, first, Operation::kWrite, 0, 0, 1));
  EXPECT_TRUE(table.admits(kSession, second, Operation::kWrite, 0, 0, 1));
  EXPECT_EQ(table.find(first), nullptr);
  EXPECT_EQ(table.find(second)->number, 2u);
}

}  // namespace
}  // namespace mempool
