// SPDX-License-Identifier: Apache-2.0
// Owns the seal checksum: XXH3 over a shard's part of a block in (layer, part) order, so that a
// discrete and an aggregated copy of the same block have the same sum. A block of several shards
// has one sum too: XXH3 over those of its parts, in rank order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/block_view.h"
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

/// Hash a block of which `shards` are all parts, in rank order.
uint64_t block_checksum(std::span<const BlockView> shards);
/// Hash it as another side holds it, whose shards are laid out by `as`: with its division of the
/// heads and its order of tokens and heads. Equal to block_checksum() there. Of replicas it looks
/// at the first. Requires: maps(as, the layouts of shards).
uint64_t block_checksum_as(std::span<const BlockLayout> as, std::span<const BlockView> shards);
/// Tell whether shards that hold the same heads of a block hold the same bytes of them.
bool replicas_agree(std::span<const BlockView> shards);
/// Tell whether all that the shards `as` hold of a block lies in the shards `in`.
bool maps(std::span<const BlockLayout> as, std::span<const BlockLayout> in);
/// Tell whether both sides' shards hold the same bytes of a block in the same order, so that its
/// sum is the same.
bool same_sums(std::span<const BlockLayout> a, std::span<const BlockLayout> b);

}  // namespace mempool
