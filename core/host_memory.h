// SPDX-License-Identifier: Apache-2.0
// Owns host memory of the pool: sealed memfd mappings.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "mempool/status.h"

namespace mempool {

/// A memfd of fixed size, mapped read-write here and sealed against growing and shrinking, so that
/// a peer that maps it can never be cut off under its feet. Move-only. Thread: confined; the bytes
/// themselves follow the owner's rules.
class HostMemory {
 public:
  /// Map `bytes` (rounded up to pages) of zeroed memory and touch them all.
  /// Errors: kInvalidArgument for no bytes; kResourceExhausted, before any page is touched, when
  /// the machine or the cgroup has less than that left; kInternal with errno when the kernel
  /// refuses.
  static Result<HostMemory> create(const std::string& name, uint64_t bytes);

  HostMemory() = default;
  HostMemory(HostMemory&& other) noexcept;
  HostMemory& operator=(HostMemory&& other) noexcept;
  ~HostMemory();

  std::byte* data() const { return data_; }
  uint64_t size() const { return size_; }
  int descriptor() const { return descriptor_; }

 private:
  int descriptor_ = -1;
  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
};

}  // namespace mempool
