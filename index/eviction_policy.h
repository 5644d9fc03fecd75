// SPDX-License-Identifier: Apache-2.0
// Owns the choice of what leaves the cache first, behind one interface.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "mempool/status.h"

namespace mempool {

/// What the index remembers of one block's use, in ticks of the index's own counter.
struct BlockUse {
  uint32_t inserted = 0;
  uint32_t last_use = 0;
  uint32_t hits = 0;
};

/// Thread: serialized, with the index.
class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;
  /// Give a block's rank; the lowest leaves first. Using a block never lowers its rank: the index
  /// looks at ranks late and relies on that.
  virtual uint64_t rank(const BlockUse& use) const = 0;
};

/// Errors: kInvalidArgument, listing the names there are ("lru").
Result<std::unique_ptr<EvictionPolicy>> make_eviction_policy(std::string_view name);

}  // namespace mempool
