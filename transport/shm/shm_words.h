// SPDX-License-Identifier: Apache-2.0
// Owns the words by which this side tells its peers, without a message, that a slot is over: those
// of the slots it writes to, and those of the slots that it has open for readers.
//
// A word is an atomic 64-bit number in a memfd that peers map read-only. Whoever copies compares it
// before and after; whoever ends a slot raises it before it ends, cancels or reuses anything.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "core/host_memory.h"
#include "mempool/status.h"
#include "transport/slot_book.h"
#include "transport/transport.h"

namespace mempool {

using ShmWord = std::atomic<uint64_t>;
static_assert(ShmWord::is_always_lock_free && sizeof(ShmWord) == sizeof(uint64_t));

/// The words of slots that this side writes to. Thread: confined; peers read the words.
class ShmSourceWords {
 public:
  struct Taken {
    uint32_t index = 0;
    uint64_t expected = 0;
  };

  /// Errors: those of HostMemory.
  static Result<ShmSourceWords> create();
  /// Give a word, or none when all are taken.
  std::optional<Taken> take();
  /// Say that whatever names this word is over, and give it back.
  void raise(const Taken& taken);
  const HostMemory& memory() const { return memory_; }

 private:
  ShmWord& word(uint32_t index) { return reinterpret_cast<ShmWord*>(memory_.data())[index]; }

  HostMemory memory_;
  std::vector<uint32_t> spare_;
};

/// Tell whether the word of an open slot says that it is open in this generation.
inline bool is_open_word(uint64_t word, uint32_t generation) {
  return (word & 1) != 0 && static_cast<uint32_t>(word >> 1) == generation;
}

/// The slots open for each peer, with a word each for readers; and which of them went stale. Keeps
/// the event queue's book, by which a notification that waits is told or not.
/// Thread: confined; peers read the words.
class ShmSlots {
 public:
  explicit ShmSlots(SlotBook& book) : book_(book) {}

  /// Errors: kAlreadyExists while another generation of the slot is open.
  Status open(uint64_t peer, Slot slot);
  void close(uint64_t peer, Slot slot);
  bool is_open(uint64_t peer, Slot slot) const { return book_.is_open(peer, slot); }
  /// Some of what was copied for the slot may be wrong: nothing of it is told any more.
  void mark_stale(uint64_t peer, Slot slot);
  bool is_stale(uint64_t peer, Slot slot) const;

  /// Give the table of a peer that connects; each success needs one disconnect().
  /// Errors: those of HostMemory.
  Result<const HostMemory*> connect(uint64_t peer);
  void disconnect(uint64_t peer);
  /// Close all slots of a peer.
  void forget(uint64_t peer);

 private:
  struct OpenSlot {
    uint32_t generation = 0;
    bool stale = false;
  };
  struct Peer {
    std::unordered_map<uint32_t, OpenSlot> open;  // by index
    HostMemory words;
    uint32_t connections = 0;
  };

  const OpenSlot* find(uint64_t peer, Slot slot) const;
  void set(Peer& peer, Slot slot, bool open);
  void drop_if_idle(uint64_t peer);

  SlotBook& book_;
  std::unordered_map<uint64_t, Peer> peers_;
  uint64_t openings_ = 0;  // makes each word's value another one
};

}  // namespace mempool
