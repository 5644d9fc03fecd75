// SPDX-License-Identifier: Apache-2.0
// Owns which slots a target has open for each peer.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>

#include "transport/transport.h"

namespace mempool {

/// Thread: confined.
class SlotBook {
 public:
  /// Errors: kAlreadyExists while another generation of the slot is open.
  Status open(uint64_t peer, Slot slot);
  void close(uint64_t peer, Slot slot);
  /// Close all slots of a peer.
  void forget(uint64_t peer) { open_.erase(peer); }
  bool is_open(uint64_t peer, Slot slot) const;
  /// Give the generation of a slot that is open.
  std::optional<Slot> open_at(uint64_t peer, uint32_t index) const;

 private:
  std::unordered_map<uint64_t, std::unordered_map<uint32_t, uint32_t>>
      open_;  // index -> generation
};

}  // namespace mempool
