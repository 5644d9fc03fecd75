// SPDX-License-Identifier: Apache-2.0
// Owns host memory of the pool: sealed memfd mappings.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/descriptor.h"
#include "mempool/status.h"

namespace mempool {

/// Whether memory may lie in pages of 2 MiB.
enum class HugePages : uint8_t {
  kNever,
  kWhereFree,  // where as many of them are free as it takes; else 4 KiB pages, and a note
};

/// A memfd of fixed size, mapped read-write here and sealed against growing and shrinking, so that
/// a peer that maps it can never be cut off under its feet. Move-only. Thread: confined; the bytes
/// themselves follow the owner's rules.
class HostMemory {
 public:
  /// Map `bytes` (rounded up to pages) of zeroed memory and touch them all.
  /// Errors: kInvalidArgument for no bytes; kResourceExhausted, before any page is touched, when
  /// the machine or the cgroup has less than that left; kInternal with errno when the kernel
  /// refuses.
  static Result<HostMemory> create(const std::string& name, uint64_t bytes,
                                   HugePages huge = HugePages::kNever);

  HostMemory() = default;
  HostMemory(HostMemory&& other) noexcept;
  HostMemory& operator=(HostMemory&& other) noexcept;
  ~HostMemory();

  std::byte* data() const { return data_; }
  uint64_t size() const { return size_; }
  int descriptor() const { return descriptor_; }
  /// Bytes of a page that it was made of.
  uint64_t page_bytes() const { return page_bytes_; }
  /// Why it has no huge pages though they were asked for, and the mend; else empty.
  const std::string& page_note() const { return page_note_; }

 private:
  static Result<HostMemory> make(const std::string& name, uint64_t bytes, uint64_t page_bytes,
                                 unsigned flags);

  int descriptor_ = -1;
  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
  uint64_t page_bytes_ = 0;
  std::string page_note_;
};

/// Tell whether a descriptor is memory that nobody can resize.
bool is_sealed(int descriptor);
/// Open a memfd of this process once more, for reading only: what peers get.
/// Errors: kUnsupported for a descriptor that is no memory sealed against resizing.
Result<Descriptor> reopen_read_only(int descriptor);

/// Bytes that the free pages of 2 MiB hold, those promised to others left out.
uint64_t free_huge_page_bytes();

}  // namespace mempool
