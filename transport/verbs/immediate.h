// SPDX-License-Identifier: Apache-2.0
// Owns the 32 bits of a notification: the immediate data of a zero-length write.
#pragma once

#include <cstdint>

namespace mempool {

inline constexpr uint32_t kLaneBits = 4;
inline constexpr uint32_t kRoundBits = 8;
inline constexpr uint32_t kGenerationBits = 6;
inline constexpr uint32_t kSlotBits = 14;

/// Slots that a notification can name.
inline constexpr uint32_t kSlotsMost = 1u << kSlotBits;

/// What a notification says. A lane's rounds count up by one with every notification it carries, so
/// that one sent again, over another rail, after the first was taken all the same, is known.
struct Immediate {
  uint32_t lane = 0;
  uint32_t round = 0;
  uint32_t generation = 0;  // its low bits
  uint32_t slot = 0;

  static Immediate of(uint32_t bits) {
    Immediate parts;
    parts.slot = bits % kSlotsMost;
    bits >>= kSlotBits;
    parts.generation = bits % (1u << kGenerationBits);
    bits >>= kGenerationBits;
    parts.round = bits % (1u << kRoundBits);
    parts.lane = bits >> kRoundBits;
    return parts;
  }
  uint32_t bits() const {
    const uint32_t upper = (lane << kRoundBits) | (round % (1u << kRoundBits));
    const uint32_t middle = (upper << kGenerationBits) | (generation % (1u << kGenerationBits));
    return (middle << kSlotBits) | slot;
  }
};

/// Tell whether `round` comes behind `last`, as long as fewer than half of all are under way.
inline bool is_later_round(uint32_t round, uint32_t last) {
  const uint32_t ahead = (round - last) % (1u << kRoundBits);
  return ahead > 0 && ahead < (1u << (kRoundBits - 1));
}

}  // namespace mempool
