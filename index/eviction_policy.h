// SPDX-License-Identifier: Apache-2.0
// Owns the choice of what leaves the cache first, behind one interface.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "core/clock.h"
#include "index/ghost_table.h"
#include "mempool/status.h"

namespace mempool {

/// What is remembered of one block's use. Time is counted in ticks of the index, one for each
/// insert and match; 64 bits, so that it never wraps and the order never breaks.
struct BlockUse {
  uint64_t last_use = 0;
  uint32_t hits = 0;      // matches that found the block; stands still at its most
  PrefixPrint print = 0;  // where the policy tracks()
  uint64_t turn = 0;      // the policy's own word
};

/// Decides among the leaves that nobody pins; the index sees to both. One that looks at last use
/// and hits alone needs rank() and no more.
/// Thread: serialized, with the index.
class EvictionPolicy {
 public:
  /// Ranks from here on form a second queue.
  static constexpr uint64_t kSecondQueue = uint64_t{1} << 63;

  virtual ~EvictionPolicy() = default;
  /// Give a block's rank; the lowest of a queue leaves first. A later last use, more hits or
  /// spare() never lower it: the index looks at ranks late and relies on that.
  virtual uint64_t rank(const BlockUse& use) const = 0;

  // ---- two queues, second chances ----------------------------------------------------------
  /// Tell which queue the next block leaves from, while it has one to give.
  virtual bool first_queue_due() const { return true; }
  /// Keep a block whose turn has come; true says that its rank was raised. May lower its hits.
  virtual bool spare(BlockUse&) { return false; }

  // ---- blocks that come and go -------------------------------------------------------------
  /// Tell whether on_insert() and on_remove() are to be called, and prints made.
  virtual bool tracks() const { return false; }
  virtual void on_insert(BlockUse&) {}
  virtual void on_remove(const BlockUse&, bool /*evicted*/) {}

  // ---- time --------------------------------------------------------------------------------
  /// Asked before a new tick is drawn; `tick` is the last one. Gives the rank up to which blocks
  /// have had their time, or 0 when that was told already.
  virtual uint64_t expired(uint64_t /*tick*/) { return 0; }

  /// Bytes of the policy's own memory.
  virtual size_t memory_bytes() const { return 0; }
};

struct EvictionOptions {
  uint32_t blocks = 1;  // of the pool; s3fifo shares it out
  Duration ttl = std::chrono::minutes(10);
  const Clock* clock = &system_clock();  // of ttl; must outlive the policy
};

/// Errors: kInvalidArgument, listing the names there are ("lru", "s3fifo", "lfu", "ttl"), or for a
/// ttl of no time.
Result<std::unique_ptr<EvictionPolicy>> make_eviction_policy(std::string_view name,
                                                             const EvictionOptions& options = {});

}  // namespace mempool
