// SPDX-License-Identifier: Apache-2.0
// Owns the arithmetic from a range back to its blocks, and the order of loads around a copy.
#include "transport/shm/shm_copier.h"

#include <algorithm>
#include <atomic>

namespace mempool {

void ShmCopier::begin() {
  seen_.clear();
  pieces_.clear();
}

void ShmCopier::watch(const ShmPeerRegion& region, uint64_t offset, uint64_t bytes) {
  if (!region.table) return;
  const ShmMemory& facts = region.facts;
  const uint64_t stride = facts.block_stride;
  // offset % (blocks * stride) / stride, without the product, which 64 bits may not hold.
  uint64_t block = offset / stride;
  const uint64_t end = offset - block * stride + bytes;  // from the first block's start
  const uint64_t count =
      end <= stride ? 1 : std::min<uint64_t>((end - 1) / stride + 1, facts.blocks);
  if (block >= facts.blocks) block %= facts.blocks;
  for (uint64_t i = 0; i < count; ++i) {
    const ShmWord& word = region.generation(block);
    // Acquire: no byte of the block is read before its generation.
    seen_.push_back({&word, word.load(std::memory_order_acquire)});
    if (++block == facts.blocks) block = 0;
  }
}

bool ShmCopier::unchanged() const {
  // No load below moves up before the copy's last one.
  std::atomic_thread_fence(std::memory_order_acquire);
  return std::all_of(seen_.begin(), seen_.end(), [](const Seen& seen) {
    return seen.word->load(std::memory_order_relaxed) == seen.generation;
  });
}

}  // namespace mempool
