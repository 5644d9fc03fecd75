// SPDX-License-Identifier: Apache-2.0
// Owns where the blocks of a pool lie: its segments in every shard, those that come and go while it
// runs among them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/block_view.h"
#include "core/host_memory.h"
#include "mempool/content.h"
#include "mempool/status.h"

namespace mempool {

/// The bytes of one shard of a segment.
struct SegmentMemory {
  std::byte* data = nullptr;
  uint64_t bytes = 0;
  int descriptor = -1;  // sealed memfd that maps it from its first byte on; -1: anonymous memory
  std::shared_ptr<const void> owner;  // keeps it mapped; null: the engine whose memory it is does
  uint64_t page_bytes = 0;            // of a page; 0 where that is not known
  std::string page_note;              // why it has no huge pages, and the mend; else empty

  /// Memory of the pool's own.
  static SegmentMemory of(HostMemory memory);
};

/// Consecutive blocks in one shard. Lives as long as its pool; its memory may go before.
struct PoolSegment {
  uint32_t region = 0;  // the transports' name for it, never given twice
  uint32_t shard = 0;
  uint32_t first_block = 0;
  uint32_t blocks = 0;
  bool adopted = false;   // memory of an engine's own
  bool in_place = false;  // and its blocks are published as they lie
  BlockLayout layout;
  SegmentMemory memory;
};

/// A segment before it has its place, shard by shard.
struct NewSegment {
  uint32_t blocks = 0;
  bool adopted = false;
  bool in_place = false;
  std::vector<BlockLayout> layouts;
  std::vector<SegmentMemory> memory;
};

/// Thread: serialized; view() and views() may be asked by anyone for a block that is pinned, since
/// each change leaves the table before it as it was. Such tables, some hundred bytes each, go with
/// the pool.
class BlockSegments {
 public:
  /// Give place to a segment at these blocks. Requires: no other has them; as many layouts and
  /// memories as shards.
  void add(uint32_t first_block, NewSegment segment);
  /// Unmap the segment at these blocks. Requires: it is there, and nobody touches it any more.
  void drop(uint32_t first_block);

  uint32_t shards() const { return shards_; }
  /// Those that are there: of the first shard by their blocks, then those of the second...
  std::span<const PoolSegment* const> all() const { return table().in_order; }
  /// Those of the first shard.
  std::span<const PoolSegment* const> of_first_shard() const {
    const Table& now = table();  // once: it may be another one at the next look
    return std::span(now.in_order).first(now.in_a_shard);
  }
  /// Give the segment of the first shard that holds a block, or null.
  const PoolSegment* holding(uint32_t index) const;
  /// Give the segment that a region is, or null.
  const PoolSegment* find_region(uint32_t region) const;
  /// Find where `blocks` more would begin, below `limit`: the first gap that holds them. Errors:
  /// kResourceExhausted.
  Result<uint32_t> find_place(uint32_t blocks, uint64_t limit) const;

  /// Requires: a segment holds the block.
  BlockView view(uint32_t index, uint32_t shard) const;

 private:
  struct Table {
    std::vector<const PoolSegment*> in_order;
    size_t in_a_shard = 0;
  };

  const Table& table() const { return *now_.load(std::memory_order_acquire); }
  void publish(std::vector<const PoolSegment*> in_order);

  uint32_t shards_ = 0;
  std::deque<PoolSegment> segments_;  // by region
  std::deque<Table> tables_{1};
  std::atomic<const Table*> now_{&tables_.front()};
};

}  // namespace mempool
