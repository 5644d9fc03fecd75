// SPDX-License-Identifier: Apache-2.0
// Owns the blocks of one medium: their memory, states, generations, pins and quarantine. Block i
// lies in every shard of the instance, under the same index; all the rest it has once.
//
//   free -> reserved -> private <-> published -> free     a peer's transfer lands in it
//   free -> writing  -> private <-> published -> free     the local engine fills it
//           writing  -> reserved                          and lends it to a peer's transfer
//   reserved or private -> quarantined -> free            bytes may still land, or are corrupt
//   free -> retired                                       its 32-bit generation is used up
// What is free elsewhere is unclaimed in memory that an engine lent, where the engine alone says
// which block is used, and absent in a segment that is not open.
//
// Invariants, which audit() recomputes from the records:
//   free + unclaimed + reserved + writing + private + published + quarantined + retired = total;
//   a block's pins are the sum of its sessions' pins; a free block has none, and a reserved,
//   writing or private one at least one;
//   each step to free raises the generation before any byte of the block is used again.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/block_segments.h"
#include "core/block_state.h"
#include "core/block_view.h"
#include "core/check.h"
#include "core/free_map.h"
#include "core/host_memory.h"
#include "mempool/content.h"
#include "mempool/status.h"
#include "mempool/types.h"

namespace mempool {

/// Thread: serialized (the agent's one lock); generations() may be read by anyone at any time.
class BlockPool {
 public:
  /// Errors: kInvalidArgument for a shape, shards or segments that make no pool; kUnsupported for a
  /// medium other than host; kResourceExhausted when the machine has not that much memory left.
  static Result<std::unique_ptr<BlockPool>> create(const PoolOptions& options,
                                                   uint64_t incarnation);

  // ---- shape -------------------------------------------------------------------------------
  /// Blocks that there are: of open segments, and those of others that are in use.
  uint32_t blocks() const { return total_; }
  /// Those that anybody may have: of open segments of the pool's own.
  uint32_t common_blocks() const;
  /// Above every index, now and later.
  uint32_t max_blocks() const { return max_blocks_; }
  Medium medium() const { return medium_; }
  uint64_t incarnation() const { return incarnation_; }
  const ContentSpec& shape() const { return shape_; }
  uint32_t shards() const { return static_cast<uint32_t>(layouts_.size()); }
  const BlockSegments& segments() const { return segments_; }
  /// By shard: how its first segment is laid out.
  std::span<const BlockLayout> layouts() const { return layouts_; }
  /// Of a whole block, in all shards.
  uint64_t block_bytes() const { return layouts_.front().block_bytes * layouts_.size(); }
  /// Requires: a live block's index, here and wherever one is taken; shard < shards().
  BlockView view(uint32_t index, uint32_t shard = 0) const { return segments_.view(index, shard); }
  std::vector<BlockView> views(uint32_t index) const;
  uint32_t free_blocks() const { return free_.count(); }
  /// Published blocks that nobody pins and that would be free without it: what eviction can free at
  /// the most.
  uint64_t evictable_blocks() const { return evictable_; }
  uint64_t count(BlockState state) const { return counts_.count(state); }
  /// The running counts, kept at each change of a state; audit() compares them with the records.
  const PoolCounts& counts() const { return counts_; }

  // ---- segments ----------------------------------------------------------------------------
  // A segment is added, opened once everybody who may meet its blocks knows it, closed, and dropped
  // once all its blocks are absent. One is named by its first block.
  /// Take memory for `blocks` more, in all shards, and touch it. Thread: safe.
  /// Errors: kInvalidArgument; kResourceExhausted when the machine has not that much left.
  Result<NewSegment> make_segment(uint32_t blocks) const;
  /// Give it its place; its blocks are absent. Errors: kResourceExhausted past max_blocks().
  Result<uint32_t> add_segment(NewSegment segment);
  /// Its blocks are free from now on, or unclaimed.
  void open_segment(uint32_t first_block);
  /// Its blocks are absent from now on, those in use or in the index once they are free.
  void close_segment(uint32_t first_block);
  /// Blocks of it that are not absent.
  uint32_t present(uint32_t first_block) const;
  /// Requires: none is present, and no peer or transport knows the segment.
  void drop_segment(uint32_t first_block);
  /// Take adopted blocks for filling, pinned once by `session`. Appends to `out`.
  /// Errors, with none taken: kResourceExhausted for one that is in use, naming how.
  Status claim(SessionId session, std::span<const uint32_t> indices,
               std::vector<BlockAddress>& out);

  // ---- addresses ---------------------------------------------------------------------------
  BlockAddress address(uint32_t index) const {
    return BlockAddress::make(incarnation_, low_generation(index), medium_, index);
  }
  /// Check that an address names a live block of this pool: any but a free or retired one.
  /// Errors: kStale for a foreign incarnation or an old generation; kInvalidArgument for another
  /// medium or an index past the end.
  Status check(const BlockAddress& address) const {
    return is_live(address) ? Status() : explain_dead(address);
  }
  /// Absent for any index that is no block's.
  BlockState state(uint32_t index) const {
    return index < records_.size() ? records_[index].state : BlockState::kAbsent;
  }
  /// Tell whether the block becomes free for anybody when it is let go.
  bool is_common(uint32_t index) const { return records_[index].idle == BlockState::kFree; }
  uint32_t pins(uint32_t index) const { return records_[index].pins; }
  /// Pins of one session on one block.
  uint32_t pins_of(SessionId session, uint32_t index) const {
    const Record& record = records_[index];
    if (session == kCallerSession) return record.caller_pins;
    const uint32_t held = record.holder == session ? record.holder_pins : 0;
    return held == record.pins ? held : held + further_pins_of(session, index);
  }

  // ---- life of a block; each call does all of its list or nothing ---------------------------
  /// Take `count` free blocks into `state` (kWriting or kReserved), pinned once by `session`,
  /// runs first, going on behind `after` where that is free. Appends to `out`.
  /// Errors: kResourceExhausted.
  Status alloc(SessionId session, size_t count, BlockState state, std::vector<BlockAddress>& out,
               std::optional<uint32_t> after = std::nullopt);
  /// Give blocks back. Requires: no byte can land in them any more.
  /// Errors: kStale (a double free is one); kInvalidArgument when the session's pin is not the only
  /// one, the index holds the block, it is quarantined, or the list names it twice.
  Status free(SessionId session, std::span<const BlockAddress> addresses);
  /// Hold sealed or writing blocks. Errors: kStale; kInvalidArgument for a block that is reserved
  /// or quarantined.
  Status pin(SessionId session, std::span<const BlockAddress> addresses);
  /// Let go, once for each time the list names a block; the last unpin of a block that no index
  /// holds frees it. Requires: no byte can land in those any more.
  /// Errors: kStale; kInvalidArgument when the session has no such pin.
  Status unpin(SessionId session, std::span<const BlockAddress> addresses);
  /// Pin one published block on the match path. Requires: published.
  void pin_published(SessionId session, uint32_t index) {
    MEMPOOL_CHECK(records_[index].state == BlockState::kPublished);
    add_pin(session, index);
  }

  /// Let a peer fill in an engine's stead: writing -> reserved, pinned by `session` too. Errors:
  /// kStale; kInvalidArgument for a block that is not one engine's alone, or is named twice.
  Status lend(SessionId session, std::span<const BlockAddress> addresses);
  /// Seal: reserved or writing -> private. A private block may be sealed anew, as a tail that has
  /// filled since. `checksum` takes the place of the one before.
  /// Requires: reserved, writing or private.
  void seal(uint32_t index, std::optional<uint64_t> checksum);
  /// The index takes a sealed block. Requires: private.
  void publish(uint32_t index);
  /// The index lets go: published -> private, or free when nobody pins it. Requires: published.
  void unpublish(uint32_t index);
  /// Set a block aside until no byte of `writer` can land; drops one pin of `session`.
  /// Requires: reserved or private, and pinned by `session`. The other pins of a private block (a
  /// corrupt one, unpublished first) stay, and it stays aside until they are gone and it is
  /// released.
  void quarantine(SessionId session, uint32_t index, const std::string& writer);
  /// quarantined -> free, once the last pin is gone too. Requires: quarantined, not yet released.
  void release(uint32_t index);
  /// Quarantine a private block whose bytes are not those sealed: nobody writes into it.
  void set_aside(SessionId session, uint32_t index);
  /// Tell whether a block is aside for its bytes, and not released.
  bool is_corrupt(uint32_t index) const { return records_[index].corrupt; }
  /// Drop every pin of a session, as unpin does. Requires: its engine or peer is gone, or what it
  /// may still write into is in quarantine.
  void end_session(SessionId session);

  std::optional<uint64_t> checksum(uint32_t index) const;

  // ---- for peers and operators -------------------------------------------------------------
  /// The generation table, one 64-bit word for each of max_blocks(), in a memfd of its own. One
  /// more word behind them changes whenever a segment is added or dropped.
  const HostMemory& generation_memory() const { return generation_memory_; }
  uint64_t segments_version() const {
    return generations_[max_blocks_].load(std::memory_order_relaxed);
  }
  /// Recompute all counts from the records, a step for each block. Errors: kInternal naming the
  /// invariant that broke.
  Result<PoolAudit> audit() const;

 private:
  friend class BlockPoolBreaker;  // tests break invariants on purpose, for audit() to find

  // One record a block. Nearly every block is pinned by the caller and at most one session more,
  // so those are counted in place; a map takes the rest.
  struct Record {
    uint32_t pins = 0;         // of all sessions
    uint32_t caller_pins = 0;  // of session 0
    uint32_t holder_pins = 0;  // of `holder`, which means nothing when this is 0
    SessionId holder = 0;
    uint32_t listed = 0;  // scratch: how often the list at hand has named the block so far
    BlockState state = BlockState::kAbsent;
    BlockState idle = BlockState::kAbsent;  // what it is when nobody uses it
    bool has_checksum = false;
    bool corrupt = false;
  };

  BlockPool() = default;
  Status check_room_for(std::span<const uint32_t> segment_blocks) const;
  const PoolSegment& segment_at(uint32_t first_block) const;
  void set_idle(uint32_t first_block, BlockState idle);
  void note_segments() { generations_[max_blocks_].fetch_add(1, std::memory_order_release); }

  uint32_t low_generation(uint32_t index) const {
    return static_cast<uint32_t>(generations_[index].load(std::memory_order_relaxed));
  }
  static bool is_idle(BlockState state) {
    return state == BlockState::kFree || state == BlockState::kRetired ||
           state == BlockState::kUnclaimed || state == BlockState::kAbsent;
  }
  static bool can_make_room(const Record& record) {
    return record.state == BlockState::kPublished && record.idle == BlockState::kFree;
  }
  bool is_live(const BlockAddress& address) const;
  Status explain_dead(const BlockAddress& address) const;
  Status check_free(SessionId session, const BlockAddress& address) const;
  Status check_unpin(SessionId session, const BlockAddress& address) const;
  Status check_lend(const BlockAddress& address) const;

  void add_pin(SessionId session, uint32_t index);
  void drop_pin(SessionId session, uint32_t index);
  uint32_t further_pins_of(SessionId session, uint32_t index) const;
  void drop_further_pin(SessionId session, uint32_t index);
  void enter(uint32_t index, BlockState state);
  void hold_back(std::string_view who);
  void let_through(std::string_view who);
  void unlist(std::span<const BlockAddress> addresses);
  void collect_if_unheld(uint32_t index);
  void free_collected();

  Status audit_block(uint32_t index, uint32_t peer_pins) const;
  Status audit_counts(const PoolCounts& recounted) const;

  Medium medium_ = Medium::kHost;
  uint64_t incarnation_ = 0;
  ContentSpec shape_;
  Placement placement_;
  HugePages huge_pages_ = HugePages::kNever;
  BlockSegments segments_;
  std::vector<BlockLayout> layouts_;  // by shard
  uint32_t max_blocks_ = 0;
  uint32_t total_ = 0;
  HostMemory generation_memory_;
  std::atomic<uint64_t>* generations_ = nullptr;
  std::vector<Record> records_;
  std::vector<uint64_t> checksums_;
  FreeMap free_;
  PoolCounts counts_;
  uint64_t evictable_ = 0;
  // Pins of sessions on blocks that had another holder when they came.
  std::unordered_map<SessionId, std::unordered_map<uint32_t, uint32_t>> further_pins_;
  std::unordered_map<uint32_t, std::string> quarantined_;  // block -> who may still write into it
  std::vector<uint32_t> batch_;  // scratch: blocks taken, or on their way to free
};

inline bool BlockPool::is_live(const BlockAddress& address) const {
  const uint32_t index = address.index();
  return address.incarnation == incarnation_ && address.medium() == medium_ &&
         index < records_.size() && address.generation == low_generation(index) &&
         !is_idle(records_[index].state);
}

inline void BlockPool::add_pin(SessionId session, uint32_t index) {
  Record& record = records_[index];
  evictable_ -= record.pins == 0 && can_make_room(record);
  ++record.pins;
  if (session == kCallerSession) {
    ++record.caller_pins;
  } else if (record.holder_pins == 0 || record.holder == session) {
    record.holder = session;
    ++record.holder_pins;
  } else {
    ++further_pins_[session][index];
  }
}

// Requires: the session holds one.
inline void BlockPool::drop_pin(SessionId session, uint32_t index) {
  Record& record = records_[index];
  --record.pins;
  evictable_ += record.pins == 0 && can_make_room(record);
  if (session == kCallerSession) {
    --record.caller_pins;
  } else if (record.holder_pins > 0 && record.holder == session) {
    --record.holder_pins;
  } else {
    drop_further_pin(session, index);
  }
}

}  // namespace mempool
