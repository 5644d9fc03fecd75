// SPDX-License-Identifier: Apache-2.0
// Owns the arithmetic from a byte range back to blocks and their slot.
#include "agent/slot_table.h"

#include <algorithm>

#include "core/check.h"

namespace mempool {

SlotTable::SlotTable(const BlockPool& pool) : pool_(pool), slot_of_block_(pool.blocks(), kNoSlot) {}

Slot SlotTable::take(SessionId session, uint64_t number) {
  uint32_t index = 0;
  if (unused_.empty()) {
    index = static_cast<uint32_t>(entries_.size());
    entries_.emplace_back();
  } else {
    index = unused_.back();
    unused_.pop_back();
  }
  Entry& entry = entries_[index];
  entry = {entry.generation + 1, session, number, true, false, {}};
  return {index, entry.generation};
}

Slot SlotTable::open(SessionId session, uint64_t number, std::span<const BlockAddress> blocks) {
  const Slot slot = take(session, number);
  for (const BlockAddress& block : blocks) slot_of_block_[block.index()] = slot.index;
  return slot;
}

Slot SlotTable::lease(SessionId session, uint64_t number, std::span<const BlockAddress> blocks) {
  const Slot slot = take(session, number);
  Entry& entry = entries_[slot.index];
  entry.reads = true;
  for (const BlockAddress& block : blocks) entry.leased.push_back(block.index());
  std::ranges::sort(entry.leased);
  return slot;
}

void SlotTable::close(Slot slot, std::span<const BlockAddress> blocks) {
  if (find(slot) == nullptr) return;
  for (const BlockAddress& block : blocks) slot_of_block_[block.index()] = kNoSlot;
  entries_[slot.index].open = false;
  unused_.push_back(slot.index);
}

const SlotTable::Entry* SlotTable::find(Slot slot) const {
  if (slot.index >= entries_.size()) return nullptr;
  const Entry& entry = entries_[slot.index];
  return entry.open && entry.generation == slot.generation ? &entry : nullptr;
}

bool SlotTable::admits(SessionId session, Slot slot, Operation operation, uint32_t region,
                       uint64_t offset, uint64_t bytes) const {
  const Entry* entry = find(slot);
  if (entry == nullptr || entry->session != session || bytes == 0) return false;
  if (entry->reads != (operation == Operation::kRead)) return false;
  if (region >= pool_.segments().size()) return false;
  const PoolSegment& segment = pool_.segments()[region];
  const BlockLayout& layout = segment.layout;
  // Discrete: blocks of one part lie side by side, a part's array apart. Aggregated: one array.
  const uint64_t array_bytes = layout.block_stride * segment.blocks;
  const uint64_t end = layout.block_bytes * segment.blocks;
  if (offset >= end || bytes > end - offset) return false;
  const uint64_t start = offset % array_bytes;
  if (bytes > array_bytes - start) return false;
  const uint64_t last = (start + bytes - 1) / layout.block_stride;
  for (uint64_t i = start / layout.block_stride; i <= last; ++i) {
    const auto block = static_cast<uint32_t>(segment.first_block + i);
    const bool its = entry->reads ? std::ranges::binary_search(entry->leased, block)
                                  : slot_of_block_[block] == slot.index;
    if (!its) return false;
  }
  return true;
}

}  // namespace mempool
