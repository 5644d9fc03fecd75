// SPDX-License-Identifier: Apache-2.0
// Owns the read-only mapping of memory that a peer has given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "core/descriptor.h"
#include "mempool/status.h"

namespace mempool {

/// Bytes of the file behind a descriptor.
Result<uint64_t> size_of(int descriptor);

/// Memory of a peer, mapped for reading. Thread: confined; what lies there changes at any time.
class ShmMapping {
 public:
  /// Check and map the first `bytes` of a descriptor that came from a peer. Errors:
  /// kPermissionDenied for one that may be resized under our feet or is shorter;
  /// kResourceExhausted.
  static Result<ShmMapping> map(const Descriptor& descriptor, uint64_t bytes);
  ShmMapping(ShmMapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        bytes_(other.bytes_),
        populated_(other.populated_) {}
  ShmMapping& operator=(ShmMapping&&) = delete;
  ~ShmMapping();

  const std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }
  /// Bring in the next pages, at most so many as take a few milliseconds, so that no copy meets a
  /// fault. Errors: kResourceExhausted.
  Status populate_step();
  bool populated() const { return populated_ == bytes_; }

 private:
  ShmMapping(const std::byte* data, uint64_t bytes) : data_(data), bytes_(bytes) {}

  const std::byte* data_ = nullptr;
  uint64_t bytes_ = 0;
  uint64_t populated_ = 0;
};

}  // namespace mempool
