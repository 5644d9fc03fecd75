// SPDX-License-Identifier: Apache-2.0
// Owns the arithmetic from a byte range back to blocks and their slot.
#include "agent/slot_table.h"

#include <algorithm>
#include <array>
#include <functional>
#include <optional>
#include <utility>

#include "core/check.h"

namespace mempool {
namespace {

// Which block a byte of a segment lies in: its strides, the widest first, down to the bytes of one
// block that lie together.
class BlockFinder {
 public:
  explicit BlockFinder(const PoolSegment& segment) : first_block_(segment.first_block) {
    const BlockLayout& layout = segment.layout;
    axes_ = {{{layout.block_stride, segment.blocks, true},
              {layout.layer_stride, layout.layers, false},
              {layout.part_stride, layout.parts, false}}};
    std::ranges::sort(axes_, std::greater(),
                      [](const Axis& axis) { return std::pair(axis.stride, axis.count); });
    run_bytes_ = layout.piece_bytes;
    while (used_ > 0 && !axes_[used_ - 1].is_block &&
           (axes_[used_ - 1].count == 1 || axes_[used_ - 1].stride == run_bytes_)) {
      run_bytes_ *= axes_[--used_].count;
    }
  }

  /// Give the block, and how many of its bytes follow from there; none for a byte between blocks.
  std::optional<std::pair<uint32_t, uint64_t>> find(uint64_t offset) const {
    uint32_t block = first_block_;
    for (const Axis& axis : std::span(axes_).first(used_)) {
      const uint64_t at = offset / axis.stride;
      if (at >= axis.count) return std::nullopt;
      offset -= at * axis.stride;
      if (axis.is_block) block += static_cast<uint32_t>(at);
    }
    if (offset >= run_bytes_) return std::nullopt;
    return std::pair(block, run_bytes_ - offset);
  }

 private:
  struct Axis {
    uint64_t stride = 0;
    uint64_t count = 0;
    bool is_block = false;
  };
  std::array<Axis, 3> axes_;
  size_t used_ = 3;
  uint32_t first_block_;
  uint64_t run_bytes_ = 0;
};

}  // namespace

SlotTable::SlotTable(const BlockPool& pool)
    : pool_(pool), slot_of_block_(pool.max_blocks(), kNoSlot) {}

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
  const PoolSegment* const segment = pool_.segments().find_region(region);
  if (segment == nullptr || bytes > segment->memory.bytes ||
      offset > segment->memory.bytes - bytes) {
    return false;
  }
  const BlockFinder finder(*segment);
  while (bytes > 0) {
    const auto found = finder.find(offset);
    if (!found) return false;
    const auto [block, run] = *found;
    const bool its = entry->reads ? std::ranges::binary_search(entry->leased, block)
                                  : slot_of_block_[block] == slot.index;
    if (!its) return false;
    const uint64_t step = std::min(run, bytes);
    offset += step;
    bytes -= step;
  }
  return true;
}

}  // namespace mempool
