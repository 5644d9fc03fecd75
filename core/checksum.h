// SPDX-License-Identifier: Apache-2.0
// Owns the seal checksum: XXH3 over one shard's block in (layer, part) order, so that a discrete
// and an aggregated copy of the same block have the same sum.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "mempool/content.h"

namespace mempool {

/// Which sealed blocks are hashed and checked.
enum class Verify : uint8_t {
  kOff,      // none; nothing is computed
  kSampled,  // 1 in 64
  kAlways,
};

Result<Verify> parse_verify(std::string_view text);
std::string_view to_string(Verify verify);

/// Tell whether `verify` picks the block that bears this generation at this index. Both words are
/// mixed, so every place has its turn.
bool picks(Verify verify, uint32_t index, uint32_t generation);

/// Hash block `block` (counted from `segment`'s first) of a segment laid out by `layout`.
uint64_t block_checksum(const BlockLayout& layout, const std::byte* segment, uint64_t block);
/// Hash what `as`, another side's layout of the same block, holds of it, in that side's order of
/// tokens and heads: equal to block_checksum() there. Requires: `as` lies inside `layout`.
uint64_t block_checksum_as(const BlockLayout& as, const BlockLayout& layout,
                           const std::byte* segment, uint64_t block);
/// Tell whether both hold the same bytes of a block in the same order, so that its sum is the same.
bool same_sums(const BlockLayout& a, const BlockLayout& b);

}  // namespace mempool
