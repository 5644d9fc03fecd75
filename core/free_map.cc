// SPDX-License-Identifier: Apache-2.0
// Owns the search for free blocks, a word of 64 at a time.
#include "core/free_map.h"

#include <algorithm>
#include <bit>
#include <numeric>

namespace mempool {
namespace {

constexpr uint32_t kWordBits = 64;

/// `count` set bits from bit `first` on. Requires: count in [1, 64].
uint64_t bit_run(uint32_t first, uint32_t count) {
  return (~uint64_t{0} >> (kWordBits - count)) << first;
}

/// A word array with one set bit for each of `bits`.
std::vector<uint64_t> all_set(uint32_t bits) {
  std::vector<uint64_t> words((uint64_t{bits} + kWordBits - 1) / kWordBits, ~uint64_t{0});
  if (bits % kWordBits != 0) words.back() = bit_run(0, bits % kWordBits);
  return words;
}

}  // namespace

FreeMap::FreeMap(uint32_t blocks, Start start)
    : words_(all_set(blocks)),
      summary_(all_set(static_cast<uint32_t>(words_.size()))),
      blocks_(blocks),
      count_(blocks) {
  if (start == Start::kAllFree) return;
  std::ranges::fill(words_, 0);
  std::ranges::fill(summary_, 0);
  count_ = 0;
}

void FreeMap::take(uint32_t count, std::optional<uint32_t> after, std::vector<uint32_t>& out) {
  uint32_t at = after ? *after + 1 : cursor_;
  if (at >= blocks_) at = 0;
  size_t filled = out.size();
  out.resize(filled + count);
  count_ -= count;
  while (count > 0) {
    const uint32_t word = at / kWordBits;
    const uint64_t ahead = words_[word] >> (at % kWordBits) << (at % kWordBits);
    if (ahead == 0) {
      at = next_word(word + 1) * kWordBits;
      continue;
    }
    const uint32_t first = static_cast<uint32_t>(std::countr_zero(ahead));
    const uint32_t run = static_cast<uint32_t>(std::countr_one(ahead >> first));
    const uint32_t taken = std::min(run, count);
    clear(word, bit_run(first, taken));
    at = word * kWordBits + first;
    std::iota(out.begin() + static_cast<ptrdiff_t>(filled),
              out.begin() + static_cast<ptrdiff_t>(filled + taken), at);
    filled += taken;
    count -= taken;
    at += taken;
    if (at >= blocks_) at = 0;
  }
  cursor_ = at;
}

void FreeMap::give(uint32_t index) {
  const uint32_t word = index / kWordBits;
  words_[word] |= bit_run(index % kWordBits, 1);
  summary_[word / kWordBits] |= bit_run(word % kWordBits, 1);
  ++count_;
}

void FreeMap::withhold(uint32_t index) {
  clear(index / kWordBits, bit_run(index % kWordBits, 1));
  --count_;
}

void FreeMap::clear(uint32_t word, uint64_t bits) {
  words_[word] &= ~bits;
  if (words_[word] == 0) summary_[word / kWordBits] &= ~bit_run(word % kWordBits, 1);
}

/// The first word at or behind `from`, wrapping around, that has a free block. Requires: one has.
uint32_t FreeMap::next_word(uint32_t from) const {
  if (from >= words_.size()) from = 0;
  uint32_t at = from / kWordBits;
  uint64_t ahead = summary_[at] >> (from % kWordBits) << (from % kWordBits);
  while (ahead == 0) {
    at = at + 1 < summary_.size() ? at + 1 : 0;
    ahead = summary_[at];
  }
  return at * kWordBits + static_cast<uint32_t>(std::countr_zero(ahead));
}

}  // namespace mempool
