// SPDX-License-Identifier: Apache-2.0
// Owns what this side gives its peers to map: read-only descriptors of its regions and of the
// generations of their blocks.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "mempool/status.h"
#include "transport/shm/shm_frame.h"
#include "transport/shm/shm_mapping.h"
#include "transport/transport.h"

namespace mempool {

/// One descriptor and what it holds.
struct ShmExport {
  uint64_t number = 0;
  ShmMemory memory;
  Descriptor descriptor;
};

/// Thread: confined.
class ShmExports {
 public:
  /// Take a region that has a descriptor, and its generations unless a region before had the same.
  /// Give how many exports that added, at the end of all(). Errors: kUnsupported for memory that is
  /// not sealed.
  Result<size_t> add(const Region& region);
  /// Forget a region, and generations that no other has. Give the numbers of both.
  std::vector<uint64_t> remove(uint32_t region);
  /// Make an export that is not kept here.
  Result<ShmExport> make(ShmMemory memory, int descriptor);
  std::span<const ShmExport> all() const { return exports_; }
  bool holds(uint32_t region) const;
  uint64_t bytes() const;

 private:
  struct Table {
    int source = -1;  // the owner's own descriptor
    uint64_t number = 0;
  };

  std::vector<ShmExport> exports_;
  std::vector<Table> tables_;
  uint64_t last_number_ = 0;
};

}  // namespace mempool
