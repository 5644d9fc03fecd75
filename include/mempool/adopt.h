// SPDX-License-Identifier: Apache-2.0
// Owns the words for memory of an engine's own that an agent adopts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace mempool {

/// One shard of an engine's tensors: the piece of (block, layer, part) starts at
/// block * block_stride + layer * layer_stride + part * part_stride bytes behind `data` and is
/// BlockLayout::piece_bytes long, in the order of the pool's placement. Pieces do not overlap, and
/// strides wider than block_stride are multiples of blocks * block_stride.
struct AdoptedMemory {
  std::byte* data = nullptr;
  uint64_t bytes = 0;
  // Memfd, sealed against growing and shrinking, whose first byte `data` is; borrowed for the call.
  // -1: anonymous memory. An agent beside the engine maps memfds only, and peers on this host can
  // read nothing else over shm.
  int descriptor = -1;
  uint64_t block_stride = 0;
  uint64_t layer_stride = 0;
  uint64_t part_stride = 0;
  // Let go of when an embedded agent uses the memory no more, in any thread; null: it stays by
  // itself until withdraw() was ok or the pool is gone.
  std::shared_ptr<const void> owner = nullptr;
};

struct AdoptOptions {
  uint32_t blocks = 0;                // numbered from 0 in claim()
  std::vector<AdoptedMemory> shards;  // all of them, in rank order; of an attached rank, its own
  // Inserting publishes the blocks where they lie, until they are claimed anew or withdrawn. Else
  // it copies them into the pool's.
  bool insert_in_place = false;
};

}  // namespace mempool
