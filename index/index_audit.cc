// SPDX-License-Identifier: Apache-2.0
// Owns the checks of what radix_tree.h and local_index.h promise about themselves.
#include <fmt/format.h>

#include <algorithm>

#include "core/check.h"
#include "index/local_index.h"
#include "index/radix_tree.h"

namespace mempool {
namespace {

Status broken(NodeId node, std::string_view what) {
  return internal_error(fmt::format("index node {} {}", node, what));
}

}  // namespace

Status RadixTree::audit() const {
  size_t blocks = 0;
  size_t roots = 0;
  size_t inner_and_leaves = 0;
  size_t children = 0;
  for (NodeId id = 0; id < nodes_.size(); ++id) {
    if (!nodes_[id].live) continue;
    MEMPOOL_RETURN_IF_ERROR(audit_node(id));
    ++(is_root(id) ? roots : inner_and_leaves);
    blocks += nodes_[id].slots.size();
    for (NodeId c = nodes_[id].first_child; c != kNoNode; c = nodes_[c].next_sibling) ++children;
  }
  if (blocks != blocks_) {
    return internal_error(fmt::format("the index counts {} blocks but has {}", blocks_, blocks));
  }
  if (roots != roots_.size() || roots != contents_.size()) {
    return internal_error(
        fmt::format("the index has {} roots for {} contents", roots, roots_.size()));
  }
  if (children != inner_and_leaves || children_.size() != inner_and_leaves) {
    return internal_error(fmt::format("of {} index nodes {} hang below another and {} are hashed",
                                      inner_and_leaves, children, children_.size()));
  }
  if (nodes() != roots + inner_and_leaves) return internal_error("an index node id is lost");
  return {};
}

Status RadixTree::audit_node(NodeId id) const {
  const Node& node = nodes_[id];
  if (node.tokens.size() != node.slots.size() * tokens_per_block_) {
    return broken(id, "has not one slot for each token block");
  }
  NodeId before = kNoNode;
  for (NodeId child = node.first_child; child != kNoNode; child = nodes_[child].next_sibling) {
    if (!nodes_[child].live || nodes_[child].parent != id ||
        nodes_[child].previous_sibling != before) {
      return broken(child, "is not linked with its parent and siblings");
    }
    if (nodes_[child].owner != node.owner) return broken(child, "is not its parent's owner's");
    before = child;
  }
  if (is_root(id)) {
    const auto content = contents_.find(id);
    if (content == contents_.end() || root(content->second).node != id) {
      return broken(id, "is no content's root");
    }
    if (!node.slots.empty()) return broken(id, "is a root with tokens");
    return is_leaf(id) ? broken(id, "is a root that nothing continues") : Status();
  }
  if (node.slots.empty()) return broken(id, "has no blocks");
  if (find_child(node.parent, node.tokens.data()) != id) {
    return broken(id, "is not the child its parent finds for its first block");
  }
  if (!is_leaf(id) && nodes_[node.first_child].next_sibling == kNoNode) {
    return broken(id, "has one child, which should be joined to it");
  }
  return {};
}

Status LocalIndex::audit() const {
  MEMPOOL_RETURN_IF_ERROR(tree_.audit());
  std::vector<bool> seen(pool_.max_blocks());
  std::vector<size_t> published(orders_.size());
  std::vector<size_t> leaves(orders_.size());
  Status status;
  tree_.for_each_node([&](NodeId node) {
    if (status.ok()) status = audit_slots(node, seen);
    published[tree_.owner(node)] += tree_.slots(node).size();
    if (!tree_.is_root(node) && tree_.is_leaf(node)) ++leaves[tree_.owner(node)];
  });
  MEMPOOL_RETURN_IF_ERROR(status);
  if (pool_.count(BlockState::kPublished) != blocks()) {
    return internal_error(fmt::format("the pool has {} published blocks, the index {}",
                                      pool_.count(BlockState::kPublished), blocks()));
  }
  for (uint32_t share = 0; share < orders_.size(); ++share) {
    MEMPOOL_RETURN_IF_ERROR(audit_share(share, published[share], leaves[share]));
  }
  MEMPOOL_RETURN_IF_ERROR(shares_.audit());
  if (std::ranges::find(listed_, true) != listed_.end()) {
    return internal_error("a list's check left its marks behind");
  }
  return {};
}

Status LocalIndex::audit_share(uint32_t share, size_t published, size_t leaves) const {
  const TenantShare& counted = shares_.all()[share];
  if (counted.published != published) {
    return internal_error(fmt::format("tenant '{}' has {} published blocks, its count is {}",
                                      counted.rule.name, published, counted.published));
  }
  const Order& order = orders_[share];
  if (order.size() != leaves) {
    return internal_error(
        fmt::format("{} entries stand in the eviction order of {} leaves", order.size(), leaves));
  }
  for (const Leaf& leaf : order) {
    if (!tree_.is_leaf(leaf.node)) return broken(leaf.node, "is to be evicted but is no leaf");
    if (tree_.owner(leaf.node) != share) return broken(leaf.node, "stands in another's order");
    if (leaf.rank > tail_rank(leaf.node)) return broken(leaf.node, "stands too late to be evicted");
  }
  return {};
}

Status LocalIndex::audit_slots(NodeId node, std::vector<bool>& seen) const {
  const auto slots = tree_.slots(node);
  if (slots.empty()) return {};
  const auto above = tree_.slots(tree_.above({.node = node}).node);
  BlockUse before = above.empty() ? slots.front().use : above.back().use;
  for (const IndexSlot& slot : slots) {
    if (slot.index() >= pool_.max_blocks() || pool_.address(slot.index()) != address(slot)) {
      return broken(node, fmt::format("holds {}, which is gone", to_string(address(slot))));
    }
    if (pool_.state(slot.index()) != BlockState::kPublished) {
      return broken(node,
                    fmt::format("holds {}, which is not published", to_string(address(slot))));
    }
    if (seen[slot.index()]) {
      return broken(node, fmt::format("holds {} a second time", to_string(address(slot))));
    }
    if (slot.use.last_use > before.last_use || slot.use.hits > before.hits) {
      return broken(node, "has a block used more than the one before it");
    }
    seen[slot.index()] = true;
    before = slot.use;
  }
  return {};
}

}  // namespace mempool
