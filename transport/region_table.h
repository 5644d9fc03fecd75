// SPDX-License-Identifier: Apache-2.0
// Owns the regions registered with one backend, and the key under which a peer names one of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "mempool/status.h"
#include "transport/transport.h"

namespace mempool {

/// What a peer learns of a region, for backends whose target resolves the range itself: enough to
/// refuse a range outside it before anything is sent.
struct RegionKey {
  uint64_t incarnation = 0;
  uint32_t region = 0;
  uint64_t bytes = 0;
};

std::vector<std::byte> encode_region_key(const RegionKey& key);
/// Errors: kInvalidArgument for a malformed key, or one of another region than `region`; kStale for
/// one of another incarnation than `incarnation`.
Result<RegionKey> decode_region_key(std::span<const std::byte> bytes, uint64_t incarnation,
                                    uint32_t region);

/// Check whose key it is that a peer gave, in every backend's form of one. Errors: kStale for one
/// of another incarnation; kInvalidArgument for one of another region.
Status check_key_names(uint64_t key_incarnation, uint32_t key_region, uint64_t incarnation,
                       uint32_t region);

/// Check what holds for every backend's regions. Errors: kInvalidArgument for an empty one;
/// kUnsupported for a kind outside `memory_kinds`.
Status check_region(const Region& region, uint8_t memory_kinds);

/// Tell whether [offset, offset + bytes) lies inside a region of `size` bytes.
inline bool lies_inside(uint64_t size, uint64_t offset, uint64_t bytes) {
  return offset <= size && bytes <= size - offset;
}

/// Tell whether [at, at + size) and [base, base + bytes) have a byte in common.
inline bool overlap(const void* at, uint64_t size, const std::byte* base, uint64_t bytes) {
  const auto* first = static_cast<const std::byte*>(at);
  return first < base + bytes && base < first + size;
}

/// Thread: confined.
class RegionTable {
 public:
  /// Errors: those of check_region(); kAlreadyExists.
  Status add(const Region& region, uint8_t memory_kinds);
  /// Errors: kNotFound.
  Status remove(uint32_t id);
  const Region* find(uint32_t id) const;
  /// Give the first byte of a range; null for an unknown region or a range outside it.
  std::byte* resolve(uint32_t id, uint64_t offset, uint64_t bytes) const;

 private:
  std::unordered_map<uint32_t, Region> regions_;
};

}  // namespace mempool
