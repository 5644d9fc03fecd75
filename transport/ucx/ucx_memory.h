// SPDX-License-Identifier: Apache-2.0
// Owns the regions of one transport as UCX has them registered.
#pragma once

#include <ucp/api/ucp.h>

#include <unordered_map>
#include <vector>

#include "transport/region_table.h"

namespace mempool {

/// Thread: confined.
class UcxMemory {
 public:
  UcxMemory(ucp_context_h context, uint64_t incarnation)
      : context_(context), incarnation_(incarnation) {}
  ~UcxMemory();
  UcxMemory(const UcxMemory&) = delete;
  UcxMemory& operator=(const UcxMemory&) = delete;

  /// Errors: those of RegionTable::add; kResourceExhausted past the limit on locked memory.
  Status add(const Region& region, uint8_t memory_kinds);
  /// Errors: kNotFound.
  Status remove(uint32_t region);
  /// Errors: kNotFound; kUnsupported for a key that is too long.
  Result<std::vector<std::byte>> key_of(uint32_t region) const;
  const RegionTable& regions() const { return regions_; }
  /// Requires: the region is registered.
  ucp_mem_h handle_of(uint32_t region) const { return handles_.find(region)->second; }

 private:
  Result<ucp_mem_h> map(const Region& region) const;

  const ucp_context_h context_;
  const uint64_t incarnation_;
  RegionTable regions_;
  std::unordered_map<uint32_t, ucp_mem_h> handles_;
};

}  // namespace mempool
