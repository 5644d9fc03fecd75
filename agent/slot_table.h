// SPDX-License-Identifier: Apache-2.0
// Owns the slots a target has open, and the question whether a peer's range lies inside one.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/block_pool.h"
#include "transport/transport.h"

namespace mempool {

/// Regions are the segments of the agent's pool. Thread: confined to the agent's thread.
class SlotTable {
 public:
  struct Entry {
    uint32_t generation = 0;
    SessionId session = 0;
    uint64_t number = 0;
    bool open = false;
    bool reads = false;            // a lease: the session may read `leased`, and write nothing
    std::vector<uint32_t> leased;  // block indices, sorted
  };

  explicit SlotTable(const BlockPool& pool);

  /// Open a slot for a transfer's reserved blocks.
  Slot open(SessionId session, uint64_t number, std::span<const BlockAddress> blocks);
  /// Open a slot under which a fetch reads these blocks; others may read them too.
  Slot lease(SessionId session, uint64_t number, std::span<const BlockAddress> blocks);
  /// Close it, with the blocks it was opened for, none for a lease; frames that still name it are
  /// refused from now on.
  void close(Slot slot, std::span<const BlockAddress> blocks);
  /// The open slot's entry, or null when it is closed or was reused.
  const Entry* find(Slot slot) const;
  /// Tell whether [offset, offset + bytes) of a region lies in blocks of this session's slot.
  bool admits(SessionId session, Slot slot, Operation operation, uint32_t region, uint64_t offset,
              uint64_t bytes) const;

 private:
  Slot take(SessionId session, uint64_t number);
  static constexpr uint32_t kNoSlot = UINT32_MAX;
  const BlockPool& pool_;
  std::vector<Entry> entries_;
  std::vector<uint32_t> unused_;
  std::vector<uint32_t> slot_of_block_;
};

}  // namespace mempool
