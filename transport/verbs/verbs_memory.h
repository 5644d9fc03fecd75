// SPDX-License-Identifier: Apache-2.0
// Owns the registration of regions with every device, and the key by which a peer names one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "transport/region_table.h"
#include "transport/verbs/verbs_device.h"

namespace mempool {

using VerbsDevices = std::vector<std::unique_ptr<VerbsDevice>>;

/// A region of ours. Its address stays while it is registered.
struct RegisteredRegion {
  Region region;
  std::vector<MemoryHandle> memories;  // one a device
  uint32_t uses = 0;                   // pieces of calls under way
};

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

/// Thread: confined. Registers with all devices at once, in threads of its own.
class VerbsMemory {
 public:
  explicit VerbsMemory(const VerbsDevices& devices) : devices_(devices) {}

  /// Errors: as RegionTable::add(); kResourceExhausted for too little RLIMIT_MEMLOCK.
  Status add(const Region& region, uint8_t memory_kinds);
  /// Errors: kNotFound; kResourceExhausted while a call uses it.
  Status remove(uint32_t id);
  /// Null for an unknown region or a range outside it.
  RegisteredRegion* resolve(uint32_t id, uint64_t offset, uint64_t bytes);
  /// Errors: kNotFound.
  Result<std::vector<std::byte>> key(uint32_t id, uint64_t incarnation) const;

 private:
  Status register_everywhere(const Region& region, std::vector<MemoryHandle>& memories) const;

  const VerbsDevices& devices_;
  std::unordered_map<uint32_t, RegisteredRegion> regions_;
};

}  // namespace mempool
