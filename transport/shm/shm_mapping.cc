// SPDX-License-Identifier: Apache-2.0
// Owns the system calls around shared memory: reopen, check the seals, map, populate.
#include "transport/shm/shm_mapping.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/check.h"
#include "core/host_memory.h"

namespace mempool {
namespace {

constexpr uint64_t kPopulateStep = uint64_t{64} << 20;
}  // namespace

Result<uint64_t> size_of(int descriptor) {
  struct stat facts {};
  if (fstat(descriptor, &facts) == 0) return static_cast<uint64_t>(facts.st_size);
  return internal_error(fmt::format("fstat of shared memory: {}", std::strerror(errno)));
}

Result<ShmMapping> ShmMapping::map(const Descriptor& descriptor, uint64_t bytes) {
  if (!is_sealed(descriptor.number())) {
    return permission_denied("a peer gives memory that is not sealed against resizing");
  }
  MEMPOOL_ASSIGN_OR_RETURN(const uint64_t size, size_of(descriptor.number()));
  if (bytes == 0 || bytes > size) {
    return permission_denied(
        fmt::format("a peer gives memory of {} bytes and says that it has {}", size, bytes));
  }
  void* data = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, descriptor.number(), 0);
  if (data != MAP_FAILED) return ShmMapping(static_cast<const std::byte*>(data), bytes);
  return resource_exhausted(fmt::format("map {} bytes of a peer: {}", bytes, std::strerror(errno)));
}

ShmMapping::~ShmMapping() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), bytes_);
}

Status ShmMapping::populate_step() {
  const uint64_t step = std::min(kPopulateStep, bytes_ - populated_);
  std::byte* const at = const_cast<std::byte*>(data_ + populated_);  // madvise writes nothing
  if (step > 0 && madvise(at, step, MADV_POPULATE_READ) != 0) {
    if (errno != EINVAL) {
      return resource_exhausted(
          fmt::format("bring in {} bytes of a peer: {}", step, std::strerror(errno)));
    }
    // A kernel before 5.14: touch each page.
    const auto page_bytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    for (uint64_t offset = 0; offset < step; offset += page_bytes) {
      (void)*const_cast<volatile const std::byte*>(at + offset);
    }
  }
  populated_ += step;
  return {};
}

}  // namespace mempool
