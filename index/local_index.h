// SPDX-License-Identifier: Apache-2.0
// Owns what this instance can answer from: prompts to published blocks, with pins, last use and
// eviction. It decides which blocks are published; core's pool keeps their states and pins.
//
// Invariants, which audit() checks:
//   the pool's published blocks are the blocks of the tree, each there once with its generation;
//   no block is used more than the one before it, so none ranks above it;
//   every leaf stands in the eviction order once, at a rank no higher than its last block's now.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "core/block_pool.h"
#include "index/admission_policy.h"
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
  size_t admitted = 0;                // leading blocks of the list that the index answers for now
  std::vector<BlockAddress> serving;  // per admitted block: the address that answers for its tokens
  std::vector<size_t> duplicates;     // positions whose tokens another block had published already
};

/// Thread: serialized (the agent's one lock).
class LocalIndex {
 public:
  /// `pool` must outlive the index. `sink` may be empty; it must not call the index. No admission
  /// policy admits everything.
  LocalIndex(BlockPool& pool, std::unique_ptr<EvictionPolicy> policy, ChangeSink sink = nullptr,
             std::unique_ptr<AdmissionPolicy> admission = nullptr);

  /// Seal and publish `blocks`, one for each whole token block of the prompt, in order; each is
  /// pinned by `session`, or is the published block of its tokens already. Blocks of tokens that
  /// are published by another block stay the session's and come back as duplicates, as they were.
  /// A block is published with the seal given for it, or with none: what was private and sealed
  /// before may have filled since.
  /// Of the caller's session, admission may take the leading blocks only; the others stay the
  /// session's, as they were. What a peer's session brings was asked for, and is admitted.
  /// Errors, with nothing changed: kInvalidArgument for a wrong count, a block listed twice, one
  /// that is not the session's, or one published under other tokens; kStale.
  /// Requires: each seal's position is one of the list's.
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
  /// Remove those of some blocks that are published, and everything that continues them. Looks
  /// through all slots: a table of blocks would cost every insert what is rarely needed.
  size_t erase_blocks(std::span<const uint32_t> blocks);

  // ---- the flat door: blocks under keys, over the same pool and eviction order ---------------
  /// As insert(), each block under a key of its own (key_hash()); keys know no prefixes.
  Result<InsertOutcome> insert_keys(SessionId session, std::span<const ContentId> keys,
                                    std::span<const BlockAddress> blocks,
                                    std::span<const Seal> seals = {});
  /// Pin the blocks of the leading keys that are held, append their addresses, and give how many.
  /// A list's first key counts as used last, so that of one list the last keys are evicted first.
  size_t match_keys(SessionId session, std::span<const ContentId> keys,
                    std::vector<BlockAddress>& out);
  /// Remove those keys of the list that are held; gives how many.
  size_t erase_keys(std::span<const ContentId> keys);

  // ---- room --------------------------------------------------------------------------------
  /// Free up to `count` published blocks nobody pins, leaves first, by the policy's rank.
  size_t evict(size_t count) { return take(count, UINT64_MAX); }
  /// Blocks evicted so far: by evict(), or because their time was over when insert() or match()
  /// looked.
  uint64_t evicted() const { return evicted_; }

  size_t blocks() const { return tree_.blocks(); }
  size_t nodes() const { return tree_.nodes(); }
  /// Bytes of the index's own memory.
  size_t memory_bytes() const;
  /// Errors: kInternal naming the invariant that broke.
  Status audit() const;

 private:
  // A leaf in the eviction order. Matching leaves the order alone: a rank that rose since is found
  // out when the leaf's turn comes.
  struct Leaf {
    uint64_t rank = 0;
    NodeId node = 0;
    auto operator<=>(const Leaf&) const = default;
    size_t queue() const { return rank >= EvictionPolicy::kSecondQueue ? 1 : 0; }
  };
  using Order = std::set<Leaf>;
  // By queue: the leaves that stand before it had their turn in the evict() at hand.
  using Cursors = std::array<Leaf, 2>;

  std::span<const TokenId> whole_blocks(std::span<const TokenId> tokens) const;
  BlockAddress address(const IndexSlot& slot) const;
  /// Read what the tree already has for the list into `outcome`, and give how far that goes.
  RadixTree::Position find_serving(const ContentId& content, std::span<const TokenId> tokens,
                                   std::span<const BlockAddress> blocks,
                                   InsertOutcome& outcome) const;
  Status check_list(SessionId session, std::span<const BlockAddress> blocks,
                    std::span<const BlockAddress> published);
  Status check_unpublished(SessionId session, const BlockAddress& block) const;
  /// Give how many leading blocks of the list may be in the index, of which `held` are already.
  /// Leaves the list's prints in prints_ where somebody needs them.
  size_t admit(SessionId session, const Prompt& prompt, std::span<const BlockAddress> blocks,
               size_t held);
  /// Publish `blocks`, the list's from `first` on, as the last of `tokens`, which `at` has reached
  /// as far as they are there.
  void store(const ContentId& content, const RadixTree::Position& at,
             std::span<const TokenId> tokens, std::span<const BlockAddress> blocks, size_t first);
  /// As admit(), for keys; `published` holds the addresses of those that are held.
  size_t admit_keys(SessionId session, std::span<const ContentId> keys,
                    std::span<const BlockAddress> blocks, std::span<const BlockAddress> published);
  IndexSlot* find_key(const ContentId& key);
  /// Publish blocks[i] in slots[i], the list's block `first` + i.
  void drop_old_seal(uint32_t index);
  void publish(std::span<IndexSlot> slots, std::span<const BlockAddress> blocks, size_t first);

  /// Remove a node's blocks from the first `keep` on, and all below it.
  size_t remove(NodeId node, size_t keep);
  /// Evict what has had its time, where the policy knows one.
  void expire();
  /// evict(), up to and with a rank.
  size_t take(size_t count, uint64_t limit);
  Order::const_iterator next_leaf(const Cursors& from) const;
  /// Take the blocks of a leaf from the first `keep` on out of tree and pool; gives the node that
  /// now ends there, or kNoNode. The caller must settle() it.
  NodeId cut_leaf(NodeId leaf, size_t keep, bool evicted);
  /// Restore order where something was cut: a new leaf joins the eviction order, an only child its
  /// parent.
  void settle(NodeId node);
  /// Count the last blocks of a leaf that may go while their rank is at most `rank`.
  size_t evictable(NodeId leaf, uint64_t rank, size_t most) const;
  Status audit_slots(NodeId node, std::vector<bool>& seen) const;

  uint64_t tail_rank(NodeId leaf) const { return policy_->rank(tree_.slots(leaf).back().use); }
  void enqueue(NodeId leaf);
  void dequeue(NodeId leaf);
  void record(ChangeRecord::Kind kind, const ContentId& root, std::span<const TokenId> parent,
              std::span<const TokenId> tokens);

  BlockPool& pool_;
  std::unique_ptr<EvictionPolicy> policy_;
  std::unique_ptr<AdmissionPolicy> admission_;  // null: everything
  ChangeSink sink_;
  RadixTree tree_;
  std::vector<TokenId> key_tokens_;  // below every key: one block, the same for all
  Order order_;
  std::vector<uint64_t> queued_rank_;  // by node id: where a leaf stands in order_
  std::vector<bool> listed_;           // scratch of a call with a list, by block; all false between
  std::vector<TokenId> before_;        // scratch of cut_leaf()
  std::vector<PrefixPrint> prints_;    // scratch of insert()
  uint64_t tick_ = 0;
  uint64_t sequence_ = 0;
  uint64_t evicted_ = 0;
};

}  // namespace mempool
