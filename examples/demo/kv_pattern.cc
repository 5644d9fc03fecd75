// SPDX-License-Identifier: Apache-2.0
// Owns the loops over a piece's vectors and words.
#include "examples/demo/kv_pattern.h"

#include <cstring>

#include "core/check.h"
#include "core/random.h"

namespace mempool::demo {
namespace {

constexpr uint64_t kWordStep = 0x9e3779b97f4a7c15ull;  // odd: no two words of a vector are equal

uint64_t mix(uint64_t word) {
  return Random(word).next();
}

/// The word before a vector's first.
uint64_t vector_seed(uint64_t prefix, uint64_t piece_seed, uint32_t head) {
  return mix(prefix ^ (piece_seed + head));
}

uint64_t piece_seed(uint32_t layer, uint32_t part) {
  return mix((uint64_t{layer} << 32) | part);
}

void fill_vector(uint64_t word, size_t words, std::byte* at) {
  for (size_t i = 0; i < words; ++i) {
    word += kWordStep;
    std::memcpy(at + i * sizeof(word), &word, sizeof(word));
  }
}

bool vector_is_right(uint64_t word, size_t words, const std::byte* at) {
  uint64_t difference = 0;  // no early exit: the loop stays free of branches
  for (size_t i = 0; i < words; ++i) {
    word += kWordStep;
    uint64_t found;
    std::memcpy(&found, at + i * sizeof(found), sizeof(found));
    difference |= found ^ word;
  }
  return difference == 0;
}

}  // namespace

std::vector<uint64_t> prefix_hashes(uint64_t root, std::span<const TokenId> tokens) {
  std::vector<uint64_t> hashes;
  hashes.reserve(tokens.size());
  uint64_t hash = root;
  for (const TokenId token : tokens) hashes.push_back(hash = mix(hash ^ token));
  return hashes;
}

void fill_piece(const BlockLayout& layout, uint32_t layer, uint32_t part,
                std::span<const uint64_t> prefixes, std::byte* piece) {
  MEMPOOL_CHECK(layout.vector_bytes % sizeof(uint64_t) == 0 && prefixes.size() <= layout.tokens);
  const uint64_t seed = piece_seed(layer, part);
  for (uint32_t token = 0; token < prefixes.size(); ++token) {
    for (uint32_t head = 0; head < layout.heads; ++head) {
      fill_vector(vector_seed(prefixes[token], seed, head), layout.vector_bytes / sizeof(uint64_t),
                  piece + layout.vector_offset(token, head));
    }
  }
}

std::optional<VectorPlace> find_wrong_vector(const BlockLayout& layout, uint32_t layer,
                                             uint32_t part, std::span<const uint64_t> prefixes,
                                             const std::byte* piece) {
  MEMPOOL_CHECK(layout.vector_bytes % sizeof(uint64_t) == 0 && prefixes.size() <= layout.tokens);
  const uint64_t seed = piece_seed(layer, part);
  for (uint32_t token = 0; token < prefixes.size(); ++token) {
    for (uint32_t head = 0; head < layout.heads; ++head) {
      if (!vector_is_right(vector_seed(prefixes[token], seed, head),
                           layout.vector_bytes / sizeof(uint64_t),
                           piece + layout.vector_offset(token, head))) {
        return VectorPlace{token, head};
      }
    }
  }
  return std::nullopt;
}

}  // namespace mempool::demo
