// SPDX-License-Identifier: Apache-2.0
// Owns the bytes that stand for KV: as in a model, a token's vectors depend on every token up to
// it, and on the layer, the part (K or V) and the head. Filling and checking run at the speed of
// memory: one hash a vector, one addition a word.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "mempool/content.h"
#include "mempool/types.h"

namespace mempool::demo {

/// Hash every prefix of `tokens`: the last word stands for the whole list. `root` tells contents
/// apart.
std::vector<uint64_t> prefix_hashes(uint64_t root, std::span<const TokenId> tokens);

/// Fill one piece of a block. `prefixes` are the hashes of the block's valid tokens; what lies
/// behind them stays as it is. Requires: vectors of whole 8-byte words.
void fill_piece(const BlockLayout& layout, uint32_t layer, uint32_t part,
                std::span<const uint64_t> prefixes, std::byte* piece);

/// The place of a vector inside a piece.
struct VectorPlace {
  uint32_t token = 0;
  uint32_t head = 0;
  bool operator==(const VectorPlace&) const = default;
};

/// Compare every byte that fill_piece() wrote; gives the first vector that differs.
std::optional<VectorPlace> find_wrong_vector(const BlockLayout& layout, uint32_t layer,
                                             uint32_t part, std::span<const uint64_t> prefixes,
                                             const std::byte* piece);

}  // namespace mempool::demo
