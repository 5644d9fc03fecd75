// SPDX-License-Identifier: Apache-2.0
// Owns the words around a pool: what a block is, who holds it, how many there are of each kind, and
// what a pool is made by.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/host_memory.h"
#include "mempool/content.h"
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
  kUnclaimed,    // adopted, and not in use
  kAbsent,       // no block: of no open segment
};
inline constexpr size_t kBlockStates = 9;
std::string_view to_string(BlockState state);

/// In the place of a writer's name: of blocks whose bytes are not those sealed.
inline constexpr std::string_view kCorruption = "corruption";
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

struct PoolOptions {
  Medium medium = Medium::kHost;
  ContentSpec shape;  // decides the size of a block; its names do not matter here
  Placement placement;
  uint32_t shards = 1;                   // over which the heads are divided, see make_shards()
  std::vector<uint32_t> segment_blocks;  // blocks of each segment, in index order
  uint32_t max_blocks = 0;  // room for indices, of segments to come too; 0: none but the above
  HugePages huge_pages = HugePages::kNever;
};

}  // namespace mempool
