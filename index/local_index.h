// SPDX-License-Identifier: Apache-2.0
// Owns what this instance can answer from: prompts to published blocks, with pins, last use and
// eviction. It decides which blocks are published; core's pool keeps their states and pins.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/block_pool.h"
#include "index/change_record.h"
#include "index/eviction_policy.h"
#include "index/radix_tree.h"
#include "mempool/content.h"
#include "mempool/status.h"

namespace mempool {

/// A checksum computed before the lock, for the block at `position` of an inserted list.
struct Seal {
  size_t position = 0;
  uint64_t checksum = 0;
};

/// What insert() did with each block of its list.
struct InsertOutcome {
  std::vector<BlockAddress> serving;   // per block: the address that now answers for its tokens
  std::vector<size_t> duplicates;      // positions whose tokens were published already by another block
};

/// Thread: serialized (the agent's one lock).
class LocalIndex {
 public:
  /// `pool` must outlive the index. `sink` may be empty.
  LocalIndex(BlockPool& pool, std::unique_ptr<EvictionPolicy> policy, ChangeSink sink = nullptr);

  /// Seal and publish `blocks`, one for each whole token block of the prompt, in order; each is
  /// pinned by `session`, or is the published block of its tokens already. Blocks of tokens that
  /// are published by another block stay the session's and come back as duplicates, as they were.
  /// Errors, with nothing changed: kInvalidArgument for a wrong count, a block listed twice, one
  /// that is not the session's, or one published under other tokens; kStale.
  Result<InsertOutcome> insert(SessionId session, const Prompt& prompt,
                               std::span<const BlockAddress> blocks,
                               std::span<const Seal> seals = {});
  /// Find the longest published prefix in whole blocks, pin each block for `session`, append the
  /// addresses in token order to `out`, and give the number of tokens they cover.
  size_t match(SessionId session, const Prompt& prompt, std::vector<BlockAddress>& out);
  /// As match(), but touch and pin nothing.
  size_t peek(const Prompt& prompt) const;
  /// Remove the prompt's last whole block and everything that continues it; shorter prefixes stay.
  /// Pinned blocks become private. Gives the number of blocks removed.
  size_t erase(const Prompt& prompt);
  /// Remove one published block (its bytes are bad) and everything that continues it.
  size_t erase_block(uint32_t block);
  /// Free up to `count` published blocks nobody pins, leaves first, by the policy's rank.
  size_t evict(size_t count);

  size_t blocks() const { return tree_.blocks(); }
  size_t nodes() const { return tree_.nodes(); }
  /// Bytes of the index's own memory.
  size_t memory_bytes() const;
  /// Check that each held block is published with the generation the index knows, once, and that
  /// no published block is missing here. Errors: kInternal naming what broke.
  Status audit() const;

 private:
  // Added by local_index.cc's owner.
  BlockPool& pool_;
  std::unique_ptr<EvictionPolicy> policy_;
  ChangeSink sink_;
  RadixTree tree_;
};

}  // namespace mempool
