// SPDX-License-Identifier: Apache-2.0
// Owns the choice of what leaves the cache first, behind one interface.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "mempool/status.h"

namespace mempool {

/// What the index remembers of one block's use. Time is counted in ticks of the index, one for each
/// insert and match; 64 bits, so that it never wraps and the order never breaks.
struct BlockUse {
  uint64_t last_use = 0;
  uint64_t hits = 0;  // matches that found the block
};

/// Thread: serialized, with the index.
class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;
  /// Give a block's rank; the lowest leaves first. A later last use or more hits never lower it:
  /// the index looks at ranks late, and from the leaves up, and relies on that.
  virtual uint64_t rank(const BlockUse& use) const = 0;
};

/// Errors: kInvalidArgument, listing the names there are ("lru").
Result<std::unique_ptr<EvictionPolicy>> make_eviction_policy(std::string_view name);

}  // namespace mempool
