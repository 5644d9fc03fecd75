// SPDX-License-Identifier: Apache-2.0
// Owns what one incarnation of a peer has given to map: its regions, words and generations.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>

#include "mempool/status.h"
#include "transport/shm/shm_frame.h"
#include "transport/shm/shm_mapping.h"
#include "transport/shm/shm_words.h"

namespace mempool {

/// A region of a peer, and where the generations of its blocks are.
struct ShmPeerRegion {
  std::shared_ptr<ShmMapping> mapping;  // shared with the connection that populates it
  std::shared_ptr<ShmMapping> table;    // shared by the regions of one pool; null: none
  ShmMemory facts;
  uint64_t number = 0;  // under which it came; a later one is higher

  /// The first byte of a range, or null when it is not inside.
  const std::byte* resolve(uint64_t offset, uint64_t bytes) const;
  /// The generation of a block, counted from the region's first. Requires: a table.
  const ShmWord& generation(uint64_t block) const {
    return reinterpret_cast<const ShmWord*>(table->data())[facts.first_block + block];
  }
};

/// Shared by the connections to and from one incarnation; goes with the last of them.
/// Thread: confined.
class ShmPeerMemory {
 public:
  /// Map what came as `number`, and give the mapping to be populated; one that is known already is
  /// not mapped again. Errors: those of ShmMapping; kInvalidArgument for facts that do not add up;
  /// kResourceExhausted past the limit.
  Result<std::shared_ptr<ShmMapping>> add(uint64_t number, const ShmMemory& facts,
                                          const Descriptor& descriptor);
  void remove(uint64_t number);

  const ShmPeerRegion* find(uint32_t region) const;
  /// A word of the peer's as a source, or null for an index past its table.
  const ShmWord* source_word(uint32_t index) const { return word_of(source_words_, index); }
  /// The word of a slot that the peer has open for us, or null.
  const ShmWord* open_slot_word(uint32_t slot_index) const {
    return word_of(open_slots_, slot_index);
  }

 private:
  Status check_region(const ShmMemory& facts) const;
  void replace(std::shared_ptr<ShmMapping>& table, const std::shared_ptr<ShmMapping>& by);
  static const ShmWord* word_of(const std::shared_ptr<ShmMapping>& words, uint32_t index);

  std::unordered_map<uint64_t, std::shared_ptr<ShmMapping>> mappings_;  // by number
  std::unordered_map<uint32_t, ShmPeerRegion> regions_;
  std::shared_ptr<ShmMapping> source_words_;
  std::shared_ptr<ShmMapping> open_slots_;
};

}  // namespace mempool
