// SPDX-License-Identifier: Apache-2.0
// Owns the hashing of prefixes, and the ring that forgets them in the order of their coming.
#include "index/ghost_table.h"

#include <xxhash.h>

#include "core/check.h"

namespace mempool {

void append_prefix_prints(const ContentId& content, std::span<const TokenId> tokens,
                          uint32_t tokens_per_block, std::vector<PrefixPrint>& out) {
  uint64_t hash = content.words[0] ^ content.words[1];
  for (; tokens.size() >= tokens_per_block; tokens = tokens.subspan(tokens_per_block)) {
    hash = XXH3_64bits_withSeed(tokens.data(), tokens_per_block * sizeof(TokenId), hash);
    out.push_back(static_cast<PrefixPrint>(hash));
  }
}

GhostTable::GhostTable(size_t capacity) : capacity_(capacity) {
  MEMPOOL_CHECK(capacity > 0);
}

std::optional<uint64_t> GhostTable::find(PrefixPrint print) const {
  const auto found = entries_.find(print);
  if (found == entries_.end()) return std::nullopt;
  return found->second.word;
}

void GhostTable::add(PrefixPrint print, uint64_t word) {
  if (ring_.size() < capacity_) {
    ring_.push_back(print);
  } else {
    PrefixPrint& oldest = ring_[added_ % capacity_];
    const auto found = entries_.find(oldest);
    // It may have been taken since, or added again.
    if (found != entries_.end() && found->second.sequence + capacity_ == added_) {
      entries_.erase(found);
    }
    oldest = print;
  }
  entries_.insert_or_assign(print, Entry{added_++, word});
}

size_t GhostTable::memory_bytes() const {
  constexpr size_t kNodeBytes = sizeof(void*) + sizeof(std::pair<const PrefixPrint, Entry>);
  return ring_.capacity() * sizeof(PrefixPrint) + entries_.size() * kNodeBytes +
         entries_.bucket_count() * sizeof(void*);
}

}  // namespace mempool
