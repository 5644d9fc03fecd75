// SPDX-License-Identifier: Apache-2.0
// Owns the making of a sealed memfd: reserve, map, seal, touch.
#include "core/host_memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "core/check.h"
#include "core/memory_room.h"

namespace mempool {
namespace {

constexpr uint64_t kHugePageBytes = 2 << 20;

Status refused(const std::string& name, const char* call) {
  return internal_error(fmt::format("memory {}: {}: {}", name, call, std::strerror(errno)));
}

/// Give every page to this process now, so that no transfer meets a fault or a full machine.
Status populate(const std::string& name, std::byte* data, uint64_t bytes, uint64_t page_bytes) {
  if (madvise(data, bytes, MADV_POPULATE_WRITE) == 0) return Status();
  if (errno != EINVAL) return refused(name, "madvise");
  // A kernel before 5.14: the pages are new and zero, so that a zero changes nothing.
  for (uint64_t offset = 0; offset < bytes; offset += page_bytes) {
    *const_cast<volatile std::byte*>(data + offset) = std::byte{0};
  }
  return Status();
}

uint64_t count_in(const char* file) {
  std::ifstream in(std::string("/sys/kernel/mm/hugepages/hugepages-2048kB/") + file);
  uint64_t count = 0;
  in >> count;
  return count;
}

uint64_t round_up(uint64_t bytes, uint64_t page_bytes) {
  return (bytes + page_bytes - 1) / page_bytes * page_bytes;
}

}  // namespace

uint64_t free_huge_page_bytes() {
  const uint64_t free = count_in("free_hugepages");
  const uint64_t promised = count_in("resv_hugepages");
  return free > promised ? (free - promised) * kHugePageBytes : 0;
}

Result<HostMemory> HostMemory::create(const std::string& name, uint64_t bytes, HugePages huge) {
  if (bytes == 0) return invalid_argument(fmt::format("memory {}: 0 bytes, give at least 1", name));
  std::string note;
  if (huge == HugePages::kWhereFree) {
    const uint64_t wanted = round_up(bytes, kHugePageBytes);
    const uint64_t free = free_huge_page_bytes();
    note = fmt::format("{} of the {} pages of 2 MiB that it takes are free; sysctl vm.nr_hugepages",
                       free / kHugePageBytes, wanted / kHugePageBytes);
    if (free >= wanted) {
      Result<HostMemory> memory = make(name, bytes, kHugePageBytes, MFD_HUGETLB | MFD_HUGE_2MB);
      if (memory.ok()) return memory;
      note = memory.status().to_string();  // somebody was quicker
    }
  }
  if (Status room = check_room(bytes); !room.ok()) return room.with_context("memory " + name);
  MEMPOOL_ASSIGN_OR_RETURN(HostMemory memory,
                           make(name, bytes, static_cast<uint64_t>(sysconf(_SC_PAGESIZE)), 0));
  memory.page_note_ = std::move(note);
  return memory;
}

Result<HostMemory> HostMemory::make(const std::string& name, uint64_t bytes, uint64_t page_bytes,
                                    unsigned flags) {
  HostMemory memory;  // what is made so far goes with it when a later step fails
  const uint64_t size = round_up(bytes, page_bytes);
  memory.page_bytes_ = page_bytes;
  memory.descriptor_ = memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
  if (memory.descriptor_ < 0) return refused(name, "memfd_create");
  // Peers of this user reopen it for reading by its name in /proc; nobody else does.
  if (fchmod(memory.descriptor_, S_IRUSR | S_IWUSR) != 0) return refused(name, "fchmod");
  if (ftruncate(memory.descriptor_, static_cast<off_t>(size)) != 0)
    return refused(name, "ftruncate");
  void* mapping = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory.descriptor_, 0);
  if (mapping == MAP_FAILED) return refused(name, "mmap");
  memory.data_ = static_cast<std::byte*>(mapping);
  memory.size_ = size;
  // What a fork wrote would land here, among blocks that peers read.
  if (madvise(mapping, size, MADV_DONTFORK) != 0) return refused(name, "madvise");
  if (fcntl(memory.descriptor_, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0) {
    return refused(name, "fcntl(F_ADD_SEALS)");
  }
  MEMPOOL_RETURN_IF_ERROR(populate(name, memory.data_, size, page_bytes));
  return memory;
}

HostMemory::HostMemory(HostMemory&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      page_bytes_(other.page_bytes_),
      page_note_(std::move(other.page_note_)) {}

HostMemory& HostMemory::operator=(HostMemory&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(page_bytes_, other.page_bytes_);
  std::swap(page_note_, other.page_note_);
  return *this;
}

HostMemory::~HostMemory() {
  if (data_ != nullptr) munmap(data_, size_);
  if (descriptor_ >= 0) close(descriptor_);
}

bool is_sealed(int descriptor) {
  constexpr int kSizeSeals = F_SEAL_SHRINK | F_SEAL_GROW;
  const int seals = fcntl(descriptor, F_GET_SEALS);
  return seals >= 0 && (seals & kSizeSeals) == kSizeSeals;
}

Result<Descriptor> reopen_read_only(int descriptor) {
  if (!is_sealed(descriptor)) {
    return unsupported("memory that peers are to map must be a memfd sealed against resizing");
  }
  Descriptor opened(
      open(fmt::format("/proc/self/fd/{}", descriptor).c_str(), O_RDONLY | O_CLOEXEC));
  if (opened.valid()) return opened;
  return unsupported(fmt::format("reopen memory for reading: {}", std::strerror(errno)));
}

}  // namespace mempool
