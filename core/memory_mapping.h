// SPDX-License-Identifier: Apache-2.0
// Owns the mapping of memory of another process: an agent's at its engine, an engine's at its
// agent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "core/descriptor.h"
#include "mempool/status.h"

namespace mempool {

enum class Access : uint8_t { kRead, kReadWrite };

/// Memory behind a sealed memfd of another process. A forked child does not have it. Move-only.
/// Thread: confined; the bytes follow their owner's rules.
class MemoryMapping {
 public:
  /// Errors: kPermissionDenied for memory that may be resized under our feet; kInvalidArgument for
  /// more than it has; kResourceExhausted.
  static Result<MemoryMapping> map(const Descriptor& descriptor, uint64_t bytes, Access access);
  /// Bring all of it in, to spare faults later.
  void populate() const;

  MemoryMapping(MemoryMapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_), access_(other.access_) {}
  MemoryMapping& operator=(MemoryMapping&&) = delete;
  ~MemoryMapping();

  std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }

 private:
  MemoryMapping(std::byte* data, uint64_t bytes, Access access)
      : data_(data), bytes_(bytes), access_(access) {}

  std::byte* data_ = nullptr;
  uint64_t bytes_ = 0;
  Access access_ = Access::kRead;
};

}  // namespace mempool
