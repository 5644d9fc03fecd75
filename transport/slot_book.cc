// SPDX-License-Identifier: Apache-2.0
// Owns the lookups of the slot book.
#include "transport/slot_book.h"

#include <fmt/format.h>

namespace mempool {

Status SlotBook::open(uint64_t peer, Slot slot) {
  const auto [found, fresh] = open_[peer].emplace(slot.index, slot.generation);
  if (fresh) return {};
  return {StatusCode::kAlreadyExists,
          fmt::format("slot {} is open for peer {:x} with generation {}; close it first",
                      slot.index, peer, found->second)};
}

void SlotBook::close(uint64_t peer, Slot slot) {
  if (is_open(peer, slot)) open_[peer].erase(slot.index);
}

bool SlotBook::is_open(uint64_t peer, Slot slot) const {
  return open_at(peer, slot.index) == slot;
}

std::optional<Slot> SlotBook::open_at(uint64_t peer, uint32_t index) const {
  const auto slots = open_.find(peer);
  if (slots == open_.end()) return std::nullopt;
  const auto found = slots->second.find(index);
  if (found == slots->second.end()) return std::nullopt;
  return Slot{index, found->second};
}

}  // namespace mempool
