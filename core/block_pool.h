// SPDX-License-Identifier: Apache-2.0
// Owns the blocks of one medium: their memory, states, generations, pins and quarantine. Block i
// lies in every shard of the instance, under the same index; all the rest it has once.
//
//   free -> reserved -> private <-> published -> free     a peer's transfer lands in it
//   free -> writing  -> private <-> published -> free     the local engine fills it
//           writing  -> reserved                          and lends it to a peer's transfer
//   reserved or private -> quarantined -> free            bytes may still land, or are corrupt
//   free -> retired                                       its 32-bit generation is used up
//
// Invariants, which audit() recomputes from the records:
//   free + reserved + writing + private + published + quarantined + retired = total;
//   a block's pins are the sum of its sessions' pins; a free block has none, and a reserved,
//   writing or private one at least one;
//   each step to free raises the generation before any byte of the block is used again.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/block_view.h"
#include "core/check.h"
#include "core/free_map.h"
#include "core/host_memory.h"
#include "mempool/content.h"
#include "mempool/status.h"
#include "mempool/types.h"

namespace mempool {

/// Who holds a pin. Session 0 is the caller that embeds the agent; peers and attached engines get
/// others.
using SessionId = uint32_t;
inline constexpr SessionId kCallerSession = 0;
/// Engines that are attached from other processes have ids from here on.
inline constexpr SessionId kFirstEngineSession = SessionId{1} << 31;
/// Tell an engine of this agent from its peers and its own work.
constexpr bool is_engine(SessionId session) {
  return session == kCallerSession || session >= kFirstEngineSession;
}

enum class BlockState : uint8_t {
  kFree,
  kReserved,     // given to a transfer; a peer may be writing into it
  kWriting,      // held by the local caller, who fills it
  kPrivate,      // sealed, in no index
  kPublished,    // sealed, and the index holds it
  kQuarantined,  // of a transfer that ended badly; bytes may still land
  kRetired,      // its 32-bit generation is used up; never given out again
};
inline constexpr size_t kBlockStates = 7;
std::string_view to_string(BlockState state);

struct PoolOptions {
  Medium medium = Medium::kHost;
  ContentSpec shape;  // decides the size of a block; its names do not matter here
  Placement placement;
  uint32_t shards = 1;                   // over which the heads are divided, see make_shards()
  std::vector<uint32_t> segment_blocks;  // blocks of each segment, in index order
  HugePages huge_pages = HugePages::kNever;
};

/// One segment of one shard: consecutive block indices in one sealed memfd.
struct PoolSegment {
  uint32_t shard = 0;
  uint32_t first_block = 0;
  uint32_t blocks = 0;
  BlockLayout layout;
  HostMemory memory;
};

inline constexpr std::string_view kAwaitingUnpin = "awaiting unpin";

/// Blocks by state, and the quarantined ones by who holds them back.
struct PoolCounts {
  std::array<uint64_t, kBlockStates> blocks{};  // indexed by BlockState
  // Quarantined blocks by the name of who may still write into them; released ones that wait for
  // their last pin are under kAwaitingUnpin. No entry is 0.
  std::unordered_map<std::string, uint64_t> quarantine;
  uint64_t count(BlockState state) const { return blocks[static_cast<size_t>(state)]; }
  bool operator==(const PoolCounts&) const = default;
};

/// What audit() counted.
struct PoolAudit : PoolCounts {
  uint64_t total = 0;
  uint64_t pins = 0;
};

/// Thread: serialized (the agent's one lock); generations() may be read by anyone at any time.
class BlockPool {
 public:
  /// Errors: kInvalidArgument for a shape, shards or segments that make no pool; kUnsupported for a
  /// medium other than host; kResourceExhausted when the machine has not that much memory left.
  static Result<std::unique_ptr<BlockPool>> create(const PoolOptions& options,
                                                   uint64_t incarnation);

  // ---- shape -------------------------------------------------------------------------------
  uint32_t blocks() const { return static_cast<uint32_t>(records_.size()); }
  Medium medium() const { return medium_; }
  uint64_t incarnation() const { return incarnation_; }
  const ContentSpec& shape() const { return shape_; }
  uint32_t shards() const { return static_cast<uint32_t>(layouts_.size()); }
  /// The segments of the first shard, then those of the second, which begin at the same blocks...
  std::span<const PoolSegment> segments() const { return segments_; }
  /// By shard: how its first segment is laid out.
  std::span<const BlockLayout> layouts() const { return layouts_; }
  /// Of a whole block, in all shards.
  uint64_t block_bytes() const { return layouts_.front().block_bytes * layouts_.size(); }
  uint64_t bytes() const { return block_bytes() * blocks(); }
  /// Requires: index < blocks(), here and wherever an index is taken; shard < shards().
  BlockView view(uint32_t index, uint32_t shard = 0) const;
  /// Of all shards, in rank order.
  std::vector<BlockView> views(uint32_t index) const;
  uint32_t free_blocks() const { return free_.count(); }
  /// Published blocks that nobody pins: what eviction can free at the most.
  uint64_t evictable_blocks() const { return evictable_; }
  uint64_t count(BlockState state) const { return counts_.count(state); }
  /// The running counts, kept at each change of a state; audit() compares them with the records.
  const PoolCounts& counts() const { return counts_; }

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
  BlockState state(uint32_t index) const { return records_[index].state; }
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
  /// Drop every pin of a session, as unpin does. Requires: its engine or peer is gone, or what it
  /// may still write into is in quarantine.
  void end_session(SessionId session);

  /// The seal checksum, where one was computed.
  std::optional<uint64_t> checksum(uint32_t index) const;

  // ---- for peers and operators -------------------------------------------------------------
  /// The generation table, one 64-bit word a block, in a memfd of its own.
  const HostMemory& generation_memory() const { return generation_memory_; }
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
    BlockState state = BlockState::kFree;
    bool has_checksum = false;
  };

  BlockPool() = default;
  Status map_memory(uint32_t blocks, HugePages huge);

  uint32_t low_generation(uint32_t index) const {
    return static_cast<uint32_t>(generations_[index].load(std::memory_order_relaxed));
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
  std::vector<PoolSegment> segments_;
  std::vector<BlockLayout> layouts_;  // by shard
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
         records_[index].state != BlockState::kFree &&
         records_[index].state != BlockState::kRetired;
}

inline void BlockPool::add_pin(SessionId session, uint32_t index) {
  Record& record = records_[index];
  evictable_ -= record.pins == 0 && record.state == BlockState::kPublished;
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
  evictable_ += record.pins == 0 && record.state == BlockState::kPublished;
  if (session == kCallerSession) {
    --record.caller_pins;
  } else if (record.holder_pins > 0 && record.holder == session) {
    --record.holder_pins;
  } else {
    drop_further_pin(session, index);
  }
}

}  // namespace mempool
