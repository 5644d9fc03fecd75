// SPDX-License-Identifier: Apache-2.0
// Tests the memfd behind a pool: its size is fixed, its pages are there, others see its bytes.
#include "core/host_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "core/memory_mapping.h"

namespace mempool {
namespace {

constexpr uint64_t kPages = 5;

uint64_t page_bytes() {
  return static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

HostMemory make_memory(uint64_t bytes) {
  Result<HostMemory> memory = HostMemory::create("mempool-test", bytes);
  EXPECT_TRUE(memory.ok()) << memory.status().to_string();
  return std::move(memory).value();
}

TEST(HostMemory, is_zeroed_and_rounded_up_to_pages) {
  const HostMemory memory = make_memory((kPages - 1) * page_bytes() + 1);
  EXPECT_EQ(memory.size(), kPages * page_bytes());
  EXPECT_TRUE(std::all_of(memory.data(), memory.data() + memory.size(),
                          [](std::byte byte) { return byte == std::byte{0}; }));
}

TEST(HostMemory, has_huge_pages_where_they_are_free_and_says_where_not) {
  const uint64_t bytes = 3 << 20;
  const bool free = free_huge_page_bytes() >= (4 << 20);
  const Result<HostMemory> memory =
      HostMemory::create("mempool-test", bytes, HugePages::kWhereFree);
  ASSERT_TRUE(memory.ok()) << memory.status().to_string();
  EXPECT_EQ(memory->page_bytes(), free ? 2u << 20 : page_bytes());
  EXPECT_EQ(memory->size(), free ? 4u << 20 : bytes);
  EXPECT_EQ(memory->page_note().empty(), free) << memory->page_note();
  if (!free) {
    EXPECT_NE(memory->page_note().find("of the 2 pages of 2 MiB"), std::string::npos);
  }
  EXPECT_EQ(fcntl(memory->descriptor(), F_GET_SEALS), F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
  memory->data()[bytes - 1] = std::byte{1};
}

TEST(HostMemory, has_no_huge_pages_unasked) {
  const HostMemory memory = make_memory(4 << 20);
  EXPECT_EQ(memory.page_bytes(), page_bytes());
  EXPECT_TRUE(memory.page_note().empty());
}

TEST(HostMemory, every_page_is_there_before_its_first_use) {
  const HostMemory memory = make_memory(kPages * page_bytes());
  std::vector<unsigned char> resident(kPages);
  ASSERT_EQ(mincore(memory.data(), memory.size(), resident.data()), 0);
  for (const unsigned char page : resident) EXPECT_TRUE(page & 1);
}

TEST(HostMemory, cannot_grow_shrink_or_lose_its_seals) {
  const HostMemory memory = make_memory(kPages * page_bytes());
  const off_t size = static_cast<off_t>(memory.size());
  EXPECT_EQ(ftruncate(memory.descriptor(), size - 1), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(ftruncate(memory.descriptor(), size + 1), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(fcntl(memory.descriptor(), F_ADD_SEALS, F_SEAL_WRITE), -1);
  EXPECT_EQ(fcntl(memory.descriptor(), F_GET_SEALS), F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
}

TEST(HostMemory, bytes_are_seen_through_the_descriptor) {
  const HostMemory memory = make_memory(page_bytes());
  void* other = mmap(nullptr, memory.size(), PROT_READ, MAP_SHARED, memory.descriptor(), 0);
  ASSERT_NE(other, MAP_FAILED);
  memory.data()[17] = std::byte{42};
  EXPECT_EQ(static_cast<const std::byte*>(other)[17], std::byte{42});
  munmap(other, memory.size());
}

TEST(HostMemory, moves_and_leaves_nothing_behind) {
  HostMemory first = make_memory(page_bytes());
  std::byte* const data = first.data();
  const int descriptor = first.descriptor();
  HostMemory second(std::move(first));
  EXPECT_EQ(first.data(), nullptr);
  EXPECT_EQ(first.descriptor(), -1);
  EXPECT_EQ(second.data(), data);
  first = std::move(second);
  EXPECT_EQ(first.descriptor(), descriptor);
  EXPECT_EQ(first.size(), page_bytes());
}

TEST(HostMemory, descriptor_is_closed_with_it) {
  int descriptor = -1;
  {
    const HostMemory memory = make_memory(page_bytes());
    descriptor = memory.descriptor();
    ASSERT_NE(fcntl(descriptor, F_GETFD), -1);
    EXPECT_TRUE(fcntl(descriptor, F_GETFD) & FD_CLOEXEC);
  }
  EXPECT_EQ(fcntl(descriptor, F_GETFD), -1);
}

TEST(HostMemory, more_than_the_machine_has_is_refused_by_name) {
  const Status status = HostMemory::create("mempool-test", UINT64_MAX - 1).status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("mempool-test"), std::string_view::npos);
  EXPECT_EQ(HostMemory::create("mempool-test", 0).status().code(), StatusCode::kInvalidArgument);
}

TEST(MemoryMapping, more_than_the_memory_has_is_refused) {
  const HostMemory memory = HostMemory::create("test", 4096).value();
  const Descriptor descriptor = duplicate(memory.descriptor()).value();
  EXPECT_TRUE(MemoryMapping::map(descriptor, 4096, Access::kReadWrite).ok());
  const Status refused = MemoryMapping::map(descriptor, 4097, Access::kReadWrite).status();
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(refused.message(), "4097 bytes of memory that has 4096");
}

}  // namespace
}  // namespace mempool
