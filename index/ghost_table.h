// SPDX-License-Identifier: Apache-2.0
// Owns the memory of blocks that are not held: hashes of their prefixes, the newest so many.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "mempool/content.h"
#include "mempool/types.h"

namespace mempool {

/// Names a block by its content and all tokens up to its end, in a hash of 32 bits. Two blocks may
/// have the same print, so a print decides what is kept and never what is answered.
using PrefixPrint = uint32_t;

/// Append the print of each whole block of a prompt to `out`, in order.
void append_prefix_prints(const ContentId& content, std::span<const TokenId> tokens,
                          uint32_t tokens_per_block, std::vector<PrefixPrint>& out);

/// Remembers prints, each with a word of its user's, until `capacity` more were added.
/// Thread: serialized, with the index.
class GhostTable {
 public:
  /// Requires: capacity > 0.
  explicit GhostTable(size_t capacity);

  /// Give the word of a print that is remembered.
  std::optional<uint64_t> find(PrefixPrint print) const;
  /// Remember a print as the newest, which forgets the oldest of a full table.
  void add(PrefixPrint print, uint64_t word);
  /// Forget a print; gives whether it was remembered.
  bool take(PrefixPrint print) { return entries_.erase(print) == 1; }

  size_t memory_bytes() const;

 private:
  struct Entry {
    uint64_t sequence = 0;
    uint64_t word = 0;
  };
  size_t capacity_;
  std::unordered_map<PrefixPrint, Entry> entries_;
  std::vector<PrefixPrint> ring_;  // the print of addition s at s % capacity
  uint64_t added_ = 0;
};

}  // namespace mempool
