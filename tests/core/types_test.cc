// SPDX-License-Identifier: Apache-2.0
// Tests the packing and the text form of block addresses.
#include "mempool/types.h"

#include <gtest/gtest.h>

namespace mempool {
namespace {

TEST(BlockAddress, keeps_every_field_at_its_limits) {
  for (const Medium medium : {Medium::kDevice, Medium::kHost}) {
    for (const uint32_t index : {0u, 17u, BlockAddress::kIndexMax}) {
      const BlockAddress address = BlockAddress::make(UINT64_MAX, UINT32_MAX, medium, index);
      EXPECT_EQ(address.incarnation, UINT64_MAX);
      EXPECT_EQ(address.generation, UINT32_MAX);
      EXPECT_EQ(address.medium(), medium);
      EXPECT_EQ(address.index(), index);
    }
  }
}

TEST(BlockAddress, index_does_not_spill_into_medium) {
  EXPECT_EQ(BlockAddress::make(1, 2, Medium::kDevice, BlockAddress::kIndexMax).place, 0x0fffffffu);
  EXPECT_EQ(BlockAddress::make(1, 2, Medium::kHost, 0).place, 0x10000000u);
}

TEST(BlockAddress, differs_when_any_field_does) {
  const BlockAddress address = BlockAddress::make(1, 2, Medium::kHost, 3);
  EXPECT_EQ(address, BlockAddress::make(1, 2, Medium::kHost, 3));
  EXPECT_NE(address, BlockAddress::make(9, 2, Medium::kHost, 3));
  EXPECT_NE(address, BlockAddress::make(1, 9, Medium::kHost, 3));
  EXPECT_NE(address, BlockAddress::make(1, 2, Medium::kDevice, 3));
  EXPECT_NE(address, BlockAddress::make(1, 2, Medium::kHost, 9));
}

TEST(BlockAddress, reads_well_in_a_message) {
  EXPECT_EQ(to_string(BlockAddress::make(0x1f2e, 3, Medium::kHost, 17)),
            "host/17@3 of 0000000000001f2e");
  EXPECT_EQ(to_string(BlockAddress{1, 3, 0xf0000001}), "medium 15/1@3 of 0000000000000001");
}

}  // namespace
}  // namespace mempool
