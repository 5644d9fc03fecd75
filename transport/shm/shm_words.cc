// SPDX-License-Identifier: Apache-2.0
// Owns the taking and raising of words.
#include "transport/shm/shm_words.h"

#include <fmt/format.h>

#include "core/check.h"
#include "transport/shm/shm_options.h"

namespace mempool {
namespace {

constexpr int kOpeningsShift = 33;  // behind the generation and the open bit

}  // namespace

Result<ShmSourceWords> ShmSourceWords::create() {
  ShmSourceWords words;
  MEMPOOL_ASSIGN_OR_RETURN(words.memory_,
                           HostMemory::create("mempool-shm-words", kShmWords * sizeof(ShmWord)));
  for (uint32_t index = kShmWords; index > 0; --index) words.spare_.push_back(index - 1);
  return words;
}

std::optional<ShmSourceWords::Taken> ShmSourceWords::take() {
  if (spare_.empty()) return std::nullopt;
  const uint32_t index = spare_.back();
  spare_.pop_back();
  return Taken{index, word(index).load(std::memory_order_relaxed)};
}

void ShmSourceWords::raise(const Taken& taken) {
  // Ordered before every later store to the source: whoever copied one of those sees the word.
  word(taken.index).store(taken.expected + 1, std::memory_order_seq_cst);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  spare_.push_back(taken.index);
}

const ShmSlots::OpenSlot* ShmSlots::find(uint64_t peer, Slot slot) const {
  const auto found = peers_.find(peer);
  if (found == peers_.end()) return nullptr;
  const auto open = found->second.open.find(slot.index);
  if (open == found->second.open.end() || open->second.generation != slot.generation) {
    return nullptr;
  }
  return &open->second;
}

void ShmSlots::set(Peer& peer, Slot slot, bool open) {
  if (peer.words.data() == nullptr || slot.index >= kShmReadSlots) return;
  const uint64_t value =
      (openings_ << kOpeningsShift) | (uint64_t{slot.generation} << 1) | uint64_t{open};
  reinterpret_cast<ShmWord*>(peer.words.data())[slot.index].store(value, std::memory_order_seq_cst);
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

Status ShmSlots::open(uint64_t peer, Slot slot) {
  MEMPOOL_RETURN_IF_ERROR(book_.open(peer, slot));
  Peer& of = peers_[peer];
  of.open[slot.index] = {slot.generation, false};
  ++openings_;
  set(of, slot, true);
  return {};
}

void ShmSlots::close(uint64_t peer, Slot slot) {
  if (!is_open(peer, slot)) return;
  book_.close(peer, slot);
  Peer& of = peers_[peer];
  of.open.erase(slot.index);
  set(of, slot, false);
  drop_if_idle(peer);
}

void ShmSlots::mark_stale(uint64_t peer, Slot slot) {
  if (is_open(peer, slot)) peers_[peer].open[slot.index].stale = true;
}

bool ShmSlots::is_stale(uint64_t peer, Slot slot) const {
  const OpenSlot* open = find(peer, slot);
  return open != nullptr && open->stale;
}

Result<const HostMemory*> ShmSlots::connect(uint64_t peer) {
  Peer& of = peers_[peer];
  if (of.words.data() == nullptr) {
    Result<HostMemory> words =
        HostMemory::create("mempool-shm-open-slots", kShmReadSlots * sizeof(ShmWord));
    if (!words.ok()) {
      drop_if_idle(peer);
      return words.status();
    }
    of.words = std::move(words).value();
    for (const auto& [index, open] : of.open) set(of, {index, open.generation}, true);
  }
  ++of.connections;
  return &of.words;
}

void ShmSlots::disconnect(uint64_t peer) {
  const auto found = peers_.find(peer);
  if (found == peers_.end()) return;
  --found->second.connections;
  drop_if_idle(peer);
}

void ShmSlots::forget(uint64_t peer) {
  book_.forget(peer);
  const auto found = peers_.find(peer);
  if (found == peers_.end()) return;
  for (const auto& [index, open] : found->second.open) {
    set(found->second, {index, open.generation}, false);
  }
  found->second.open.clear();
  drop_if_idle(peer);
}

void ShmSlots::drop_if_idle(uint64_t peer) {
  const auto found = peers_.find(peer);
  if (found->second.open.empty() && found->second.connections == 0) peers_.erase(found);
}

}  // namespace mempool
