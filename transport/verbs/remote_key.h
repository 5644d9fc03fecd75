// SPDX-License-Identifier: Apache-2.0
// Owns the key by which a peer reaches one of our regions, and its bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "mempool/status.h"

namespace mempool {

/// What a peer's key says of its region.
struct RemoteRegion {
  uint64_t bytes = 0;
  uint64_t address = 0;        // of its first byte, in the peer's process
  std::vector<uint32_t> keys;  // one a device of the peer
};

/// Write and read a region's key: incarnation u64 | region u32 | bytes u64 | address u64 | count u8
/// | count x key u32. Errors: as decode_region_key().
std::vector<std::byte> encode_remote_key(uint64_t incarnation, uint32_t region,
                                         const RemoteRegion& key);
Result<RemoteRegion> decode_remote_key(std::span<const std::byte> bytes, uint64_t incarnation,
                                       uint32_t region);

}  // namespace mempool
