// SPDX-License-Identifier: Apache-2.0
// Owns the registration of regions with every device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "transport/region_table.h"
#include "transport/verbs/remote_key.h"
#include "transport/verbs/verbs_device.h"

namespace mempool {

using VerbsDevices = std::vector<std::unique_ptr<VerbsDevice>>;

/// A region of ours. Its address stays while it is registered.
struct RegisteredRegion {
  Region region;
  std::vector<MemoryHandle> memories;  // one a device
  uint32_t uses = 0;                   // pieces of calls under way
};

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
