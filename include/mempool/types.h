// SPDX-License-Identifier: Apache-2.0
// Owns the words every part shares: tokens, media and the 16-byte address of a block.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

#include "mempool/export.h"

namespace mempool {

/// One token of a prompt, as the model's tokenizer numbers it.
using TokenId = uint32_t;

/// Where a block's bytes live.
enum class Medium : uint8_t { kDevice = 0, kHost = 1 };

/// Names one block of one instance, in 16 bytes. The holder checks incarnation and generation at
/// every use, so an address from before a restart or a free is kStale, never another block's data.
/// Block `index` of a medium exists in every shard of the instance, with the same generation.
struct BlockAddress {
  uint64_t incarnation = 0;  // the instance's life, drawn at start
  uint32_t generation = 0;   // the low 32 bits of the block's generation
  uint32_t place = 0;        // medium in the upper 4 bits, block index in the lower 28

  static constexpr uint32_t kIndexBits = 28;
  static constexpr uint32_t kIndexMax = (1u << kIndexBits) - 1;

  static BlockAddress make(uint64_t incarnation, uint32_t generation, Medium medium,
                           uint32_t index) {
    return {incarnation, generation, (static_cast<uint32_t>(medium) << kIndexBits) | index};
  }
  Medium medium() const { return static_cast<Medium>(place >> kIndexBits); }
  uint32_t index() const { return place & kIndexMax; }
  auto operator<=>(const BlockAddress&) const = default;
};
static_assert(sizeof(BlockAddress) == 16);

/// Give "host/17@3 of 1f2e..." for messages and logs.
MEMPOOL_EXPORT std::string to_string(const BlockAddress& address);
MEMPOOL_EXPORT std::string to_string(Medium medium);

}  // namespace mempool
