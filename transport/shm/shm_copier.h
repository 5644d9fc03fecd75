// SPDX-License-Identifier: Apache-2.0
// Owns the copying of one list, and the proof that the blocks it came from were not reused
// meanwhile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "transport/shm/shm_copy_threads.h"
#include "transport/shm/shm_peer_memory.h"

namespace mempool {

/// One list at a time: begin(), watch() each range of the peer, add() each copy, copy(), and then
/// unchanged() says whether what was copied is what was there. Keeps its memory from list to list.
/// Thread: confined.
class ShmCopier {
 public:
  /// Share each copy among `threads`, this one included.
  explicit ShmCopier(uint32_t threads) : threads_(threads) {}

  void begin();
  /// Note the generations of the blocks under a range. Requires: the range lies in the region.
  void watch(const ShmPeerRegion& region, uint64_t offset, uint64_t bytes);
  void add(std::byte* to, const std::byte* from, uint64_t bytes) {
    pieces_.push_back({to, from, bytes});
  }
  void copy() { threads_.copy(pieces_); }
  /// Tell whether every generation is still the one noted. Whatever else is to be looked at after
  /// the copy, such as a slot's word, is read after this.
  bool unchanged() const;

 private:
  struct Seen {
    const ShmWord* word;
    uint64_t generation;
  };

  std::vector<Seen> seen_;
  std::vector<ShmPiece> pieces_;
  ShmCopyThreads threads_;
};

}  // namespace mempool
