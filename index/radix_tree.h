// SPDX-License-Identifier: Apache-2.0
// Owns the structure of the index: a compressed radix tree over token ids, cut at block boundaries.
//
// Invariants, which audit() checks:
//   an edge holds the tokens of one or more whole blocks, and one slot for each of them;
//   no two children of a node begin with the same block;
//   a node that is no root has no child or at least two, so an edge is as long as it can be;
//   a root is there exactly while something continues it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "index/eviction_policy.h"
#include "mempool/content.h"
#include "mempool/status.h"
#include "mempool/types.h"

namespace mempool {

/// Names a node until it is removed; ids are used again.
using NodeId = uint32_t;
inline constexpr NodeId kNoNode = UINT32_MAX;

/// What the tree keeps of one block beside its tokens: an address without the incarnation, which
/// is the pool's, and the block's use.
struct IndexSlot {
  uint32_t place = 0;
  uint32_t generation = 0;
  BlockUse use;

  uint32_t index() const { return place & BlockAddress::kIndexMax; }
};

/// Knows tokens, slots and structure; what a slot means is its user's affair. Looking up never
/// changes the structure. Children are found in one hash table for the whole tree, by parent and
/// first block; equality is decided on the tokens, never on the hash.
/// Thread: serialized, with the index.
class RadixTree {
 public:
  /// How far a walk came: `offset` blocks into the edge that ends in `node`, `blocks` from the
  /// root.
  struct Position {
    NodeId node = kNoNode;
    uint32_t offset = 0;
    size_t blocks = 0;
  };

  explicit RadixTree(uint32_t tokens_per_block) : tokens_per_block_(tokens_per_block) {}

  // ---- looking up --------------------------------------------------------------------------
  /// Stand at a content's root, from which descend() goes on.
  Position root(const ContentId& content) const;
  /// Go down one edge, as far as `tokens` (the whole prompt's) agree with it. Gives false, with
  /// `at` as it was, where no further block agrees.
  bool descend(std::span<const TokenId> tokens, Position& at) const;
  /// Go back up to the end of the edge before; at a root, offset is 0.
  Position above(const Position& at) const;

  /// The slots of a node's edge, in token order; none for a root.
  std::span<IndexSlot> slots(NodeId node) { return nodes_[node].slots; }
  std::span<const IndexSlot> slots(NodeId node) const { return nodes_[node].slots; }
  std::span<const TokenId> tokens(NodeId node) const { return nodes_[node].tokens; }
  bool is_root(NodeId node) const { return nodes_[node].parent == kNoNode; }
  bool is_leaf(NodeId node) const { return nodes_[node].first_child == kNoNode; }
  /// The word that extend() was given when the content of this node got its root.
  uint32_t owner(NodeId node) const { return nodes_[node].owner; }
  uint32_t children(NodeId node) const;
  /// Some leaf at or below `node`.
  NodeId first_leaf(NodeId node) const;
  /// Append the tokens from the root up to the edge of `node`, and give the root's content.
  ContentId trace(NodeId node, std::vector<TokenId>& before) const;

  // ---- changing ----------------------------------------------------------------------------
  /// Continue the prompt that `at` has reached with whole blocks, and give the leaf that now ends
  /// with them; their slots are the leaf's last, for the caller to fill. `owner` is kept with all
  /// of the content from its root on; where there is a root, it is that root's which counts.
  /// Requires: `tokens` is not empty, and no child at `at` begins with its first block.
  NodeId extend(const ContentId& content, const Position& at, std::span<const TokenId> tokens,
                uint32_t owner = 0);
  /// Shorten a leaf to its first `keep` blocks and give the node that now ends there: the leaf, or,
  /// when nothing was kept, its parent; kNoNode when that was a root and went as well.
  /// The parent may be left with one child: see merge_only_child().
  NodeId cut(NodeId leaf, size_t keep);
  /// Join a node with its child where it has just one. The child's id lives on.
  /// Requires: `node` is no root.
  void merge_only_child(NodeId node);
  /// Give a content's nodes another owner, and list them, the root first.
  std::vector<NodeId> give(NodeId root, uint32_t owner);

  // ---- for operators and tests -------------------------------------------------------------
  uint32_t tokens_per_block() const { return tokens_per_block_; }
  size_t blocks() const { return blocks_; }
  size_t nodes() const { return nodes_.size() - free_.size(); }
  size_t memory_bytes() const;
  /// Call `visit(node)` for every node, roots too. It may cut and merge nodes.
  template <typename Visit>
  void for_each_node(Visit visit) const {
    for (NodeId node = 0; node < nodes_.size(); ++node) {
      if (nodes_[node].live) visit(node);
    }
  }
  /// Errors: kInternal naming the invariant that broke.
  Status audit() const;

 private:
  friend class RadixTreeBreaker;  // tests break invariants on purpose, for audit() to find

  struct Node {
    std::vector<TokenId> tokens;
    std::vector<IndexSlot> slots;
    NodeId parent = kNoNode;
    NodeId first_child = kNoNode;
    NodeId next_sibling = kNoNode;
    NodeId previous_sibling = kNoNode;
    uint32_t owner = 0;
    bool live = false;
  };
  struct ContentHash {
    size_t operator()(const ContentId& content) const { return content.words[0]; }
  };
  using Children = std::unordered_multimap<uint64_t, NodeId>;

  NodeId make_node();
  void free_node(NodeId node);
  NodeId make_root(const ContentId& content, uint32_t owner);
  /// Cut an edge in two; gives the new node that ends after its first `blocks`. `node` stays the
  /// end of the rest, so what hangs below it need not be touched.
  NodeId split(NodeId node, size_t blocks);
  void attach(NodeId parent, NodeId child);
  void detach(NodeId child);
  uint64_t child_hash(NodeId parent, const TokenId* first_block) const;
  NodeId find_child(NodeId parent, const TokenId* first_block) const;
  /// Count the leading blocks of an edge that agree with `tokens`.
  size_t agreement(const Node& node, std::span<const TokenId> tokens) const;
  Status audit_node(NodeId node) const;

  uint32_t tokens_per_block_;
  size_t blocks_ = 0;
  std::vector<Node> nodes_;
  std::vector<NodeId> free_;  // ids to use again
  Children children_;         // hash of (parent, first block) -> child
  std::unordered_map<ContentId, NodeId, ContentHash> roots_;
  std::unordered_map<NodeId, ContentId> contents_;  // the way back from a root
};

}  // namespace mempool
