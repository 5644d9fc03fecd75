// SPDX-License-Identifier: Apache-2.0
// Owns the system calls of a mapping.
#include "core/memory_mapping.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "core/host_memory.h"

namespace mempool {

Result<MemoryMapping> MemoryMapping::map(const Descriptor& descriptor, uint64_t bytes,
                                         Access access) {
  if (!is_sealed(descriptor.number())) {
    return permission_denied("the memory is not sealed against resizing");
  }
  struct stat facts {};
  if (fstat(descriptor.number(), &facts) != 0 ||
      bytes > static_cast<uint64_t>(facts.st_size)) {  // to touch what is behind it would kill us
    return invalid_argument(
        fmt::format("{} bytes of memory that has {}", bytes, static_cast<uint64_t>(facts.st_size)));
  }
  const bool writes = access == Access::kReadWrite;
  void* const at = mmap(nullptr, bytes, writes ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
                        descriptor.number(), 0);
  if (at == MAP_FAILED) {
    return resource_exhausted(
        fmt::format("map {} bytes of shared memory: {}", bytes, std::strerror(errno)));
  }
  MemoryMapping mapping(static_cast<std::byte*>(at), bytes, access);
  if (madvise(at, bytes, MADV_DONTFORK) != 0) {
    return internal_error(fmt::format("keep a mapping from children: {}", std::strerror(errno)));
  }
  return mapping;
}

void MemoryMapping::populate() const {
  // The owner has touched every page, so this fails only where the kernel does not know it.
  const int how = access_ == Access::kReadWrite ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;
  (void)madvise(data_, bytes_, how);
}

MemoryMapping::~MemoryMapping() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

}  // namespace mempool
