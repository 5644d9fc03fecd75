// SPDX-License-Identifier: Apache-2.0
// Owns how the local index makes room: whose blocks go, and in which order. Each tenant's leaves
// stand in an order of their own, so that what a floor or a quota spares is never walked past.
#include <algorithm>
#include <iterator>
#include <ranges>
#include <unordered_map>
#include <utility>

#include "core/check.h"
#include "index/local_index.h"

namespace mempool {

Status LocalIndex::make_room(size_t count, uint64_t tenant, size_t asked) {
  const uint32_t share = shares_.find(tenant);
  const size_t excess = shares_.excess(share, count);
  const Need under_quota = {share, Need::Of::kQuota};
  if (removable(share, under_quota, excess) < excess) {
    return shares_.over_quota(share, asked, count);
  }
  const auto shortage = [&] { return count - std::min<size_t>(count, pool_.free_blocks()); };
  if (!can_free(shortage(), share)) return {};
  take(excess, UINT64_MAX, under_quota);
  take(shortage(), UINT64_MAX, {share});  // not all that left the quota need have been the pool's
  return {};
}

Status LocalIndex::keep_quota(SessionId session, uint32_t share,
                              std::span<const BlockAddress> prefix, size_t more) {
  const size_t excess = shares_.excess(share, more);
  const Need under_quota = {share, Need::Of::kQuota};
  const Status pinned = pool_.pin(session, prefix);
  MEMPOOL_CHECK(pinned.ok());  // the index has just answered with them
  Status status;
  if (removable(share, under_quota, excess) < excess) {
    status = shares_.over_quota(share, prefix.size() + more, more);
  } else {
    take(excess, UINT64_MAX, under_quota);
  }
  const Status unpinned = pool_.unpin(session, prefix);
  MEMPOOL_CHECK(unpinned.ok());
  return status;
}

void LocalIndex::give(const ContentId& content, uint32_t share) {
  const NodeId root = tree_.root(content).node;
  const uint32_t owner = tree_.owner(root);
  size_t blocks = 0;
  for (const NodeId node : tree_.give(root, share)) {
    blocks += tree_.slots(node).size();
    if (!tree_.is_leaf(node)) continue;
    orders_[share].insert(orders_[owner].extract({queued_rank_[node], node}));
  }
  shares_.unpublish(owner, blocks);
  shares_.publish(share, blocks);
}

bool LocalIndex::can_free(size_t count, uint32_t share) const {
  if (count > pool_.evictable_blocks()) return false;
  if (shares_.listed().empty()) return true;
  size_t found = 0;
  for (uint32_t of = 0; of < orders_.size() && found < count; ++of) {
    const Need room = {share};
    found += removable(of, room, std::min<size_t>(count - found, shares_.yields(of, room)));
  }
  return found >= count;
}

size_t LocalIndex::removable(uint32_t share, const Need& need, size_t most) const {
  size_t blocks = 0;
  std::unordered_map<NodeId, uint32_t> left;  // of an inner node: children that do not go whole
  for (const Leaf& leaf : orders_[share]) {
    for (NodeId node = leaf.node; !tree_.is_root(node);) {
      const auto slots = tree_.slots(node);
      size_t keep = slots.size();
      while (keep > 0 && blocks < most && pool_.pins(slots[keep - 1].index()) == 0) {
        blocks += serves(slots[--keep], need);
      }
      if (blocks == most) return most;
      if (keep > 0) break;
      node = tree_.above({.node = node}).node;
      if (--left.try_emplace(node, tree_.children(node)).first->second > 0) break;
    }
  }
  return blocks;
}

void LocalIndex::expire() {
  if (const uint64_t rank = policy_->expired(tick_)) take(SIZE_MAX, rank, {0, Need::Of::kTime});
}

size_t LocalIndex::take(size_t count, uint64_t limit, const Need& need) {
  size_t freed = 0;
  Cursors from = {Leaf{}, Leaf{EvictionPolicy::kSecondQueue, 0}};
  while (freed < count) {
    const auto [leaf, next] = next_turns(from, need);
    if (leaf == kNoLeaf || leaf.rank > limit) break;
    if (tail_rank(leaf.node) > leaf.rank) {
      enqueue(leaf.node);
      continue;
    }
    if (!leads_to_room(leaf.node, need)) {
      from[leaf.queue()] = {leaf.rank, leaf.node + 1};
      continue;
    }
    const uint64_t bound = std::min(next.rank, limit);
    // A policy that tracks blocks may change its mind about the queue after each of them.
    const size_t most =
        policy_->tracks()
            ? 1
            : std::min<size_t>(count - freed, shares_.yields(tree_.owner(leaf.node), need));
    const size_t blocks = evictable(leaf.node, bound, most);
    if (blocks > 0 && policy_->spare(tree_.slots(leaf.node).back().use)) {
      enqueue(leaf.node);
      continue;
    }
    from[leaf.queue()] = {leaf.rank, leaf.node + 1};  // what stays is pinned, or ranks behind next
    if (blocks == 0) continue;
    const size_t keep = tree_.slots(leaf.node).size() - blocks;
    const auto gone = tree_.slots(leaf.node).subspan(keep);
    freed += static_cast<size_t>(
        std::ranges::count_if(gone, [&](const IndexSlot& slot) { return serves(slot, need); }));
    evicted_ += blocks;
    settle(cut_leaf(leaf.node, keep, /*evicted=*/true));
    if (keep == 0) continue;
    const Leaf rest = {queued_rank_[leaf.node], leaf.node};
    from[rest.queue()] = std::min(from[rest.queue()], rest);  // it may rank before what went
  }
  return freed;
}

// An engine's own memory makes no room in the pool.
bool LocalIndex::serves(const IndexSlot& slot, const Need& need) const {
  return need.of != Need::Of::kPool || pool_.is_common(slot.index());
}

// Blocks that serve nothing go only for one before them that does: else it would stay for ever
// where all that continues it lies in an engine's memory.
bool LocalIndex::leads_to_room(NodeId leaf, const Need& need) const {
  for (NodeId node = leaf; !tree_.is_root(node); node = tree_.above({.node = node}).node) {
    for (const IndexSlot& slot : tree_.slots(node) | std::views::reverse) {
      if (pool_.pins(slot.index()) > 0) return false;
      if (serves(slot, need)) return true;
    }
  }
  return false;
}

LocalIndex::Turns LocalIndex::next_turns(const Cursors& from, const Need& need) const {
  const size_t due = policy_->first_queue_due() ? 0 : 1;
  for (const size_t queue : {due, 1 - due}) {
    Turns turns = {kNoLeaf, kNoLeaf};
    for (uint32_t share = 0; share < orders_.size(); ++share) {
      if (shares_.yields(share, need) == 0) continue;
      auto at = orders_[share].lower_bound(from[queue]);
      for (size_t i = 0; i < turns.size() && at != orders_[share].end(); ++i, ++at) {
        Leaf leaf = *at;
        for (Leaf& turn : turns) {
          if (leaf < turn) std::swap(leaf, turn);
        }
      }
    }
    if (turns.front() != kNoLeaf && turns.front().queue() == queue) return turns;
  }
  return {kNoLeaf, kNoLeaf};
}

size_t LocalIndex::evictable(NodeId leaf, uint64_t rank, size_t most) const {
  const auto slots = tree_.slots(leaf);
  size_t blocks = 0;
  while (blocks < std::min(most, slots.size())) {
    const IndexSlot& slot = slots[slots.size() - 1 - blocks];
    if (pool_.pins(slot.index()) > 0 || policy_->rank(slot.use) > rank) break;
    ++blocks;
  }
  return blocks;
}

// ---- the eviction orders -----------------------------------------------------------------------

void LocalIndex::enqueue(NodeId leaf) {
  dequeue(leaf);
  if (queued_rank_.size() <= leaf) queued_rank_.resize(leaf + 1);
  queued_rank_[leaf] = tail_rank(leaf);
  orders_[tree_.owner(leaf)].insert({queued_rank_[leaf], leaf});
}

void LocalIndex::dequeue(NodeId leaf) {
  if (leaf < queued_rank_.size()) orders_[tree_.owner(leaf)].erase({queued_rank_[leaf], leaf});
}

}  // namespace mempool
