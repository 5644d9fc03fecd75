// SPDX-License-Identifier: Apache-2.0
// Owns the radix tree's walks and changes; every change keeps the invariants of the header.
#include "index/radix_tree.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "core/check.h"

namespace mempool {
namespace {

/// Append with slack of a quarter at most, where a vector would double: an edge that decode extends
/// block by block is moved seldom, and one that is written once stays exact.
template <typename T>
void reserve_more(std::vector<T>& vector, size_t more) {
  const size_t size = vector.size();
  if (vector.capacity() - size < more) vector.reserve(size + std::max(more, size / 4));
}

template <typename T>
void keep_first(std::vector<T>& vector, size_t count) {
  vector.resize(count);
  if (count < vector.capacity() / 2) vector.shrink_to_fit();
}

template <typename T>
void drop_first(std::vector<T>& vector, size_t count) {
  vector = std::vector<T>(vector.begin() + static_cast<ptrdiff_t>(count), vector.end());
}

template <typename T>
std::vector<T> joined(const std::vector<T>& first, const std::vector<T>& second) {
  std::vector<T> both;
  both.reserve(first.size() + second.size());
  both.insert(both.end(), first.begin(), first.end());
  both.insert(both.end(), second.begin(), second.end());
  return both;
}

}  // namespace

// ---- looking up ------------------------------------------------------------------------------

RadixTree::Position RadixTree::root(const ContentId& content) const {
  const auto found = roots_.find(content);
  return {.node = found == roots_.end() ? kNoNode : found->second};
}

bool RadixTree::descend(std::span<const TokenId> tokens, Position& at) const {
  const auto rest = tokens.subspan(at.blocks * tokens_per_block_);
  if (at.node == kNoNode || rest.size() < tokens_per_block_) return false;
  if (at.offset < nodes_[at.node].slots.size()) return false;  // the edge went another way
  const NodeId child = find_child(at.node, rest.data());
  if (child == kNoNode) return false;
  const size_t blocks = agreement(nodes_[child], rest);
  at = {child, static_cast<uint32_t>(blocks), at.blocks + blocks};
  return true;
}

RadixTree::Position RadixTree::above(const Position& at) const {
  const NodeId parent = nodes_[at.node].parent;
  return {parent, static_cast<uint32_t>(nodes_[parent].slots.size()), at.blocks - at.offset};
}

uint32_t RadixTree::children(NodeId node) const {
  uint32_t count = 0;
  for (NodeId c = nodes_[node].first_child; c != kNoNode; c = nodes_[c].next_sibling) ++count;
  return count;
}

NodeId RadixTree::first_leaf(NodeId node) const {
  while (!is_leaf(node)) node = nodes_[node].first_child;
  return node;
}

ContentId RadixTree::trace(NodeId node, std::vector<TokenId>& before) const {
  const auto start = static_cast<ptrdiff_t>(before.size());
  NodeId up = node;
  while (!is_root(up)) {
    up = nodes_[up].parent;
    before.insert(before.begin() + start, nodes_[up].tokens.begin(), nodes_[up].tokens.end());
  }
  return contents_.at(up);
}

uint64_t RadixTree::child_hash(NodeId parent, const TokenId* first_block) const {
  return XXH3_64bits_withSeed(first_block, tokens_per_block_ * sizeof(TokenId), parent);
}

NodeId RadixTree::find_child(NodeId parent, const TokenId* first_block) const {
  const auto [begin, end] = children_.equal_range(child_hash(parent, first_block));
  for (auto entry = begin; entry != end; ++entry) {
    const Node& child = nodes_[entry->second];
    if (child.parent == parent &&
        std::equal(first_block, first_block + tokens_per_block_, child.tokens.data())) {
      return entry->second;
    }
  }
  return kNoNode;
}

size_t RadixTree::agreement(const Node& node, std::span<const TokenId> tokens) const {
  const size_t most = std::min(node.slots.size(), tokens.size() / tokens_per_block_);
  const size_t block_bytes = tokens_per_block_ * sizeof(TokenId);
  size_t blocks = 0;
  while (blocks < most) {
    const size_t token = blocks * tokens_per_block_;
    if (std::memcmp(&node.tokens[token], &tokens[token], block_bytes) != 0) break;
    ++blocks;
  }
  return blocks;
}

// ---- changing --------------------------------------------------------------------------------

NodeId RadixTree::extend(const ContentId& content, const Position& at,
                         std::span<const TokenId> tokens, uint32_t owner) {
  NodeId end = at.node == kNoNode ? make_root(content, owner) : at.node;
  if (at.offset < nodes_[end].slots.size()) end = split(end, at.offset);
  const bool append = is_leaf(end) && !is_root(end);
  const NodeId leaf = append ? end : make_node();
  Node& node = nodes_[leaf];
  const size_t blocks = tokens.size() / tokens_per_block_;
  reserve_more(node.tokens, tokens.size());
  reserve_more(node.slots, blocks);
  node.tokens.insert(node.tokens.end(), tokens.begin(), tokens.end());
  node.slots.resize(node.slots.size() + blocks);
  blocks_ += blocks;
  if (!append) attach(end, leaf);
  return leaf;
}

NodeId RadixTree::cut(NodeId leaf, size_t keep) {
  Node& node = nodes_[leaf];
  blocks_ -= node.slots.size() - keep;
  if (keep > 0) {
    keep_first(node.tokens, keep * tokens_per_block_);
    keep_first(node.slots, keep);
    return leaf;
  }
  const NodeId parent = node.parent;
  detach(leaf);
  free_node(leaf);
  if (!is_root(parent) || !is_leaf(parent)) return parent;
  roots_.erase(contents_.at(parent));
  contents_.erase(parent);
  free_node(parent);
  return kNoNode;
}

void RadixTree::merge_only_child(NodeId node) {
  const NodeId child = nodes_[node].first_child;
  if (child == kNoNode || nodes_[child].next_sibling != kNoNode) return;
  const NodeId parent = nodes_[node].parent;
  detach(child);
  detach(node);
  nodes_[child].tokens = joined(nodes_[node].tokens, nodes_[child].tokens);
  nodes_[child].slots = joined(nodes_[node].slots, nodes_[child].slots);
  free_node(node);
  attach(parent, child);
}

std::vector<NodeId> RadixTree::give(NodeId root, uint32_t owner) {
  std::vector<NodeId> nodes = {root};
  for (size_t i = 0; i < nodes.size(); ++i) {
    Node& node = nodes_[nodes[i]];
    node.owner = owner;
    for (NodeId c = node.first_child; c != kNoNode; c = nodes_[c].next_sibling) nodes.push_back(c);
  }
  return nodes;
}

NodeId RadixTree::split(NodeId node, size_t blocks) {
  const NodeId upper = make_node();
  const NodeId parent = nodes_[node].parent;
  detach(node);
  const auto edge = std::span(nodes_[node].tokens).first(blocks * tokens_per_block_);
  const auto slots = std::span(nodes_[node].slots).first(blocks);
  nodes_[upper].tokens.assign(edge.begin(), edge.end());
  nodes_[upper].slots.assign(slots.begin(), slots.end());
  drop_first(nodes_[node].tokens, edge.size());
  drop_first(nodes_[node].slots, slots.size());
  attach(parent, upper);
  attach(upper, node);
  return upper;
}

NodeId RadixTree::make_root(const ContentId& content, uint32_t owner) {
  const NodeId root = make_node();
  nodes_[root].owner = owner;
  roots_.emplace(content, root);
  contents_.emplace(root, content);
  return root;
}

NodeId RadixTree::make_node() {
  NodeId node = static_cast<NodeId>(nodes_.size());
  if (free_.empty()) {
    nodes_.emplace_back();
  } else {
    node = free_.back();
    free_.pop_back();
  }
  nodes_[node].live = true;
  return node;
}

void RadixTree::free_node(NodeId node) {
  nodes_[node] = Node();
  free_.push_back(node);
}

void RadixTree::attach(NodeId parent, NodeId child) {
  Node& node = nodes_[child];
  const NodeId next = nodes_[parent].first_child;
  node.parent = parent;
  node.owner = nodes_[parent].owner;
  node.next_sibling = next;
  if (next != kNoNode) nodes_[next].previous_sibling = child;
  nodes_[parent].first_child = child;
  children_.emplace(child_hash(parent, node.tokens.data()), child);
}

void RadixTree::detach(NodeId child) {
  Node& node = nodes_[child];
  const auto [begin, end] = children_.equal_range(child_hash(node.parent, node.tokens.data()));
  children_.erase(std::find_if(begin, end, [&](const auto& e) { return e.second == child; }));
  if (node.next_sibling != kNoNode) {
    nodes_[node.next_sibling].previous_sibling = node.previous_sibling;
  }
  if (node.previous_sibling != kNoNode) {
    nodes_[node.previous_sibling].next_sibling = node.next_sibling;
  } else {
    nodes_[node.parent].first_child = node.next_sibling;
  }
  node.parent = node.next_sibling = node.previous_sibling = kNoNode;
}

// ---- for operators and tests -----------------------------------------------------------------

size_t RadixTree::memory_bytes() const {
  // A hash node of the standard library: next pointer, hash or key, value; and its bucket.
  constexpr size_t kEntryBytes = sizeof(void*) + sizeof(Children::value_type);
  size_t bytes = nodes_.capacity() * sizeof(Node) + free_.capacity() * sizeof(NodeId);
  for (const Node& node : nodes_) {
    bytes += node.tokens.capacity() * sizeof(TokenId) + node.slots.capacity() * sizeof(IndexSlot);
  }
  bytes += children_.size() * kEntryBytes + children_.bucket_count() * sizeof(void*);
  bytes += roots_.size() * (2 * kEntryBytes + 2 * sizeof(ContentId));
  bytes += (roots_.bucket_count() + contents_.bucket_count()) * sizeof(void*);
  return bytes;
}

}  // namespace mempool
