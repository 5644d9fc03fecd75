// SPDX-License-Identifier: Apache-2.0
// Owns what this instance can answer from: prompts to published blocks, with pins, last use and
// eviction. It decides which blocks are published; core's pool keeps their states and pins.
//
// Invariants, which audit() checks:
//   the pool's published blocks are the blocks of the tree, each there once with its generation;
//   no block is used more than the one before it, so none ranks above it;
//   every leaf stands in its tenant's eviction order once, at a rank no higher than its last
//   block's now;
//   each tenant's count is that of its published blocks, and within its quota.
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
#include "index/tenant_shares.h"
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
  /// policy admits everything; a tenant that no rule names has no quota and no floor.
  LocalIndex(BlockPool& pool, std::unique_ptr<EvictionPolicy> policy, ChangeSink sink = nullptr,
             std::unique_ptr<AdmissionPolicy> admission = nullptr, TenantRules tenants = {});

  /// Seal and publish `blocks`, one for each whole token block of the prompt, in order; each is
  /// pinned by `session`, or is the published block of its tokens already. Blocks of tokens that
  /// are published by another block stay the session's and come back as duplicates, as they were.
  /// A block is published with the seal given for it, or with none: what was private and sealed
  /// before may have filled since.
  /// Of the caller's session, admission may take the leading blocks only; the others stay the
  /// session's, as they were. What a peer's session brings was asked for, and is admitted.
  /// A content is the tenant's that an insert of new blocks first names; what was published of it
  /// before, by keys or by who named none, is the tenant's from then on.
  /// A tenant at its quota has its own unpinned blocks evicted for the new ones.
  /// Errors, with nothing changed: kInvalidArgument for a wrong count, a block listed twice, one
  /// that is not the session's, or one published under other tokens; kStale; kResourceExhausted
  /// where that does not make room under the quota.
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
  /// As insert(), each block under a key of its own (key_hash()); keys know no prefixes and no
  /// tenants.
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
  /// Free up to `count` published blocks nobody pins, leaves first, by the policy's rank: those of
  /// the tenant, and of each other one those above its floor. Blocks published in an engine's own
  /// memory make no room: they go only where they continue one that does, and are not counted.
  size_t evict(size_t count, uint64_t tenant = 0) {
    return take(count, UINT64_MAX, {shares_.find(tenant)});
  }
  /// Evict until the pool has `count` free blocks that the tenant may have under its quota; its
  /// whole request comes to `asked`. Where the pool cannot have as many, nothing is evicted, and
  /// the pool's alloc() says so. Errors, with nothing evicted: kResourceExhausted for the quota.
  Status make_room(size_t count, uint64_t tenant = 0, size_t asked = 0);
  /// Count blocks against a tenant's quota that a transfer or fetch brings, until unawait(): the
  /// tenant's that it names, whosever the content is.
  /// Requires: make_room() was ok with as many.
  void await(uint64_t tenant, size_t blocks) { shares_.await(shares_.find(tenant), blocks); }
  void unawait(uint64_t tenant, size_t blocks) { shares_.unawait(shares_.find(tenant), blocks); }
  const TenantShares& tenants() const { return shares_; }
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
  static constexpr Leaf kNoLeaf = {UINT64_MAX, kNoNode};
  using Order = std::set<Leaf>;
  // By queue: the leaves that stand before it had their turn in the evict() at hand.
  using Cursors = std::array<Leaf, 2>;
  // The leaf whose turn it is, and the one after it.
  using Turns = std::array<Leaf, 2>;

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
  /// as far as they are there. A content that is new belongs to `share`.
  void store(const ContentId& content, const RadixTree::Position& at,
             std::span<const TokenId> tokens, std::span<const BlockAddress> blocks, size_t first,
             uint32_t share = 0);
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
  size_t take(size_t count, uint64_t limit, const Need& need);
  /// Tell whether a block is what is needed, once it has gone.
  bool serves(const IndexSlot& slot, const Need& need) const;
  /// Tell whether a leaf's last block, or one before it up to the first that is pinned, serves.
  bool leads_to_room(NodeId leaf, const Need& need) const;
  Turns next_turns(const Cursors& from, const Need& need) const;
  /// Count the blocks of a share that nobody pins, no pinned one continues, and that serve a need,
  /// up to `most`.
  size_t removable(uint32_t share, const Need& need, size_t most) const;
  /// Tell whether evict() for a share can free as many.
  bool can_free(size_t count, uint32_t share) const;
  /// Move what is published of a content, and its leaves' turns, to a share.
  void give(const ContentId& content, uint32_t share);
  /// Make room under a share's quota for `more` blocks behind a published prefix, which stays.
  Status keep_quota(SessionId session, uint32_t share, std::span<const BlockAddress> prefix,
                    size_t more);
  /// Take the blocks of a leaf from the first `keep` on out of tree and pool; gives the node that
  /// now ends there, or kNoNode. The caller must settle() it.
  NodeId cut_leaf(NodeId leaf, size_t keep, bool evicted);
  /// Restore order where something was cut: a new leaf joins the eviction order, an only child its
  /// parent.
  void settle(NodeId node);
  /// Count the last blocks of a leaf that may go while their rank is at most `rank`.
  size_t evictable(NodeId leaf, uint64_t rank, size_t most) const;
  Status audit_slots(NodeId node, std::vector<bool>& seen) const;
  Status audit_share(uint32_t share, size_t published, size_t leaves) const;

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
  std::vector<TokenId> key_tokens_;    // below every key: one block, the same for all
  TenantShares shares_;                // a node's owner is its share
  std::vector<Order> orders_;          // by share
  std::vector<uint64_t> queued_rank_;  // by node id: where a leaf stands in its order
  std::vector<bool> listed_;           // scratch of a call with a list, by block; all false between
  std::vector<TokenId> before_;        // scratch of cut_leaf()
  std::vector<PrefixPrint> prints_;    // scratch of insert()
  uint64_t tick_ = 0;
  uint64_t sequence_ = 0;
  uint64_t evicted_ = 0;
};

}  // namespace mempool
