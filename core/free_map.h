// SPDX-License-Identifier: Apache-2.0
// Owns which blocks are free: a bitmap with a summary, which hands out runs of neighbours so that
// ranges merge when blocks are sent.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace mempool {

/// Thread: serialized.
class FreeMap {
 public:
  enum class Start : uint8_t { kAllFree, kAllTaken };

  FreeMap() = default;
  explicit FreeMap(uint32_t blocks, Start start = Start::kAllFree);

  uint32_t count() const { return count_; }
  bool is_free(uint32_t index) const { return (words_[index / 64] >> (index % 64)) & 1; }
  /// Take `count` blocks, appending their indices to `out`: first those that follow `after`, then
  /// the next free ones from there (or from where the last call stopped), wrapping around.
  /// Requires: count <= this->count().
  void take(uint32_t count, std::optional<uint32_t> after, std::vector<uint32_t>& out);
  /// Requires: the block is taken.
  void give(uint32_t index);
  /// Take one block. Requires: it is free.
  void withhold(uint32_t index);

 private:
  uint32_t next_word(uint32_t from) const;
  void clear(uint32_t word, uint64_t bits);

  std::vector<uint64_t> words_;    // bit set: block free
  std::vector<uint64_t> summary_;  // bit set: the word has a free block
  uint32_t blocks_ = 0;
  uint32_t count_ = 0;
  uint32_t cursor_ = 0;
};

}  // namespace mempool
