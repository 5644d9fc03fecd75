// SPDX-License-Identifier: Apache-2.0
// Tests the registry, the region table and its keys, and the slot book.
#include "transport/transport_registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "transport/region_table.h"
#include "transport/slot_book.h"

namespace mempool {
namespace {

Result<std::unique_ptr<Transport>> refuse(const TransportContext&) {
  return unsupported("no such device");
}

TEST(TransportRegistry, holds_what_is_built_in_and_the_modules) {
  TransportRegistry registry;
  register_transports(registry);
  EXPECT_THAT(registry.names(), testing::ElementsAre("local", "shm", "tcp", "ucx", "verbs"));
}

TEST(TransportRegistry, takes_a_name_once) {
  TransportRegistry registry;
  EXPECT_TRUE(registry.add("one", refuse).ok());
  EXPECT_EQ(registry.add("one", refuse).code(), StatusCode::kAlreadyExists);
}

TEST(TransportRegistry, an_unknown_name_is_answered_with_those_there_are) {
  TransportRegistry registry;
  register_transports(registry);
  const Status status = registry.open("nccl", {}).status();
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("local, shm, tcp"));
}

TEST(TransportRegistry, a_backend_that_cannot_open_says_why) {
  TransportRegistry registry;
  ASSERT_TRUE(registry.add("one", refuse).ok());
  const Status status = registry.open("one", {}).status();
  EXPECT_EQ(status.code(), StatusCode::kUnsupported);
  EXPECT_EQ(status.message(), "no such device");
}

TEST(RegionKey, reads_back_as_written) {
  const RegionKey read = decode_region_key(encode_region_key({7, 3, 1000}), 7, 3).value();
  EXPECT_EQ(read.incarnation, 7u);
  EXPECT_EQ(read.region, 3u);
  EXPECT_EQ(read.bytes, 1000u);
}

TEST(RegionTable, resolves_what_lies_inside_and_nothing_else) {
  std::vector<std::byte> memory(100);
  RegionTable table;
  Region region;
  region.id = 3;
  region.base = memory.data();
  region.bytes = memory.size();
  ASSERT_TRUE(table.add(region, static_cast<uint8_t>(MemoryKind::kHost)).ok());
  EXPECT_EQ(table.resolve(3, 0, 100), memory.data());
  EXPECT_EQ(table.resolve(3, 99, 1), memory.data() + 99);
  EXPECT_EQ(table.resolve(3, 99, 2), nullptr);
  EXPECT_EQ(table.resolve(3, UINT64_MAX, 2), nullptr);
  EXPECT_EQ(table.resolve(3, 2, UINT64_MAX), nullptr);
  EXPECT_EQ(table.resolve(4, 0, 1), nullptr);
  ASSERT_TRUE(table.remove(3).ok());
  EXPECT_EQ(table.resolve(3, 0, 1), nullptr);
}

TEST(SlotBook, a_slot_is_open_for_one_peer_in_one_generation) {
  SlotBook book;
  ASSERT_TRUE(book.open(1, {5, 2}).ok());
  EXPECT_TRUE(book.is_open(1, {5, 2}));
  EXPECT_FALSE(book.is_open(1, {5, 1}));
  EXPECT_FALSE(book.is_open(1, {6, 2}));
  EXPECT_FALSE(book.is_open(2, {5, 2}));
  book.close(1, {5, 1});
  EXPECT_TRUE(book.is_open(1, {5, 2})) << "a late close of another generation";
  book.close(1, {5, 2});
  EXPECT_FALSE(book.is_open(1, {5, 2}));
}

TEST(SlotBook, forgets_a_peer_as_a_whole) {
  SlotBook book;
  ASSERT_TRUE(book.open(1, {5, 2}).ok());
  ASSERT_TRUE(book.open(2, {5, 2}).ok());
  book.forget(1);
  EXPECT_FALSE(book.is_open(1, {5, 2}));
  EXPECT_TRUE(book.is_open(2, {5, 2}));
}

}  // namespace
}  // namespace mempool
