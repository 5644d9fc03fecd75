// SPDX-License-Identifier: Apache-2.0
// Tests the radix tree's structure: where edges split and join, and that its audit finds damage.
#include "index/radix_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <set>

namespace mempool {

/// Breaks one invariant of a tree at a time. Thread: confined.
class RadixTreeBreaker {
 public:
  explicit RadixTreeBreaker(RadixTree& tree) : tree_(tree) {}
  void miscount_blocks() { ++tree_.blocks_; }
  void lose_a_token(NodeId node) { tree_.nodes_[node].tokens.pop_back(); }
  void change_first_token(NodeId node) { ++tree_.nodes_[node].tokens.front(); }
  void unlink(NodeId node) { tree_.nodes_[tree_.nodes_[node].parent].first_child = kNoNode; }
  void relink(NodeId node, NodeId parent) { tree_.nodes_[node].parent = parent; }
  void hash_twice(NodeId node) { tree_.children_.emplace(0, node); }
  void split_for_nothing(NodeId node) { tree_.split(node, 1); }
  void forget_content(NodeId root) { tree_.contents_.erase(root); }
  void lose_a_node() { tree_.nodes_.emplace_back(); }

 private:
  RadixTree& tree_;
};

namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Tokens = std::vector<TokenId>;

constexpr uint32_t kTokensPerBlock = 2;
constexpr ContentId kContent{{1, 2}};
constexpr ContentId kOther{{1, 3}};  // the same hash, another content

/// Walk as far as the tree goes.
RadixTree::Position find(const RadixTree& tree, const Tokens& tokens,
                         ContentId content = kContent) {
  auto at = tree.root(content);
  while (tree.descend(tokens, at)) continue;
  return at;
}

/// Add what the tree lacks of a prompt of whole blocks; the new slots' places count up from
/// `first_place`.
NodeId add(RadixTree& tree, const Tokens& tokens, uint32_t first_place = 0,
           ContentId content = kContent) {
  const auto at = find(tree, tokens, content);
  const auto rest = std::span(tokens).subspan(at.blocks * kTokensPerBlock);
  if (rest.empty()) return at.node;
  const NodeId leaf = tree.extend(content, at, rest);
  for (auto& slot : tree.slots(leaf).last(rest.size() / kTokensPerBlock)) {
    slot.place = first_place++;
  }
  return leaf;
}

/// The places along a prompt.
std::vector<uint32_t> places(const RadixTree& tree, const Tokens& tokens,
                             ContentId content = kContent) {
  std::vector<uint32_t> out;
  auto at = tree.root(content);
  while (tree.descend(tokens, at)) {
    for (const auto& slot : tree.slots(at.node).first(at.offset)) out.push_back(slot.place);
  }
  return out;
}

/// Thread: confined.
class RadixTreeTest : public testing::Test {
 protected:
  void TearDown() override { EXPECT_EQ(tree_.audit().to_string(), "OK"); }
  RadixTree tree_{kTokensPerBlock};
};

TEST_F(RadixTreeTest, empty_tree_finds_nothing) {
  EXPECT_EQ(find(tree_, {1, 2}).blocks, 0u);
  EXPECT_EQ(tree_.blocks(), 0u);
  EXPECT_EQ(tree_.nodes(), 0u);
}

TEST_F(RadixTreeTest, one_prompt_is_one_edge_below_the_root) {
  add(tree_, {1, 2, 3, 4, 5, 6}, 10);
  EXPECT_EQ(tree_.nodes(), 2u);
  EXPECT_EQ(tree_.blocks(), 3u);
  EXPECT_THAT(places(tree_, {1, 2, 3, 4, 5, 6}), ElementsAre(10, 11, 12));
}

TEST_F(RadixTreeTest, walk_stops_at_the_last_whole_block_that_agrees) {
  add(tree_, {1, 2, 3, 4, 5, 6}, 10);
  EXPECT_THAT(places(tree_, {1, 2, 3, 4, 5}), ElementsAre(10, 11));
  EXPECT_THAT(places(tree_, {1, 2, 3, 9, 5, 6}), ElementsAre(10));
  EXPECT_THAT(places(tree_, {1, 9, 3, 4}), ElementsAre());
  EXPECT_THAT(places(tree_, {1}), ElementsAre());
  EXPECT_THAT(places(tree_, {1, 2, 3, 4, 5, 6, 7, 8}), ElementsAre(10, 11, 12));
}

TEST_F(RadixTreeTest, longer_prompt_lengthens_the_leaf) {
  const NodeId leaf = add(tree_, {1, 2}, 10);
  EXPECT_EQ(add(tree_, {1, 2, 3, 4}, 11), leaf);
  EXPECT_EQ(tree_.nodes(), 2u);
  EXPECT_THAT(places(tree_, {1, 2, 3, 4}), ElementsAre(10, 11));
}

TEST_F(RadixTreeTest, leaf_that_grows_block_by_block_keeps_every_token) {
  Tokens tokens;
  for (uint32_t block = 0; block < 200; ++block) {
    tokens.insert(tokens.end(), {block, block + 1});
    add(tree_, tokens, block);
  }
  EXPECT_EQ(tree_.nodes(), 2u);
  const auto found = places(tree_, tokens);
  ASSERT_EQ(found.size(), 200u);
  for (uint32_t block = 0; block < 200; ++block) EXPECT_EQ(found[block], block);
}

TEST_F(RadixTreeTest, prompts_that_part_inside_a_block_share_only_the_blocks_before) {
  add(tree_, {1, 2, 3, 4, 5, 6}, 10);
  add(tree_, {1, 2, 3, 9}, 20);
  EXPECT_EQ(tree_.nodes(), 4u);  // root, the shared block, two ends
  EXPECT_THAT(places(tree_, {1, 2, 3, 4, 5, 6}), ElementsAre(10, 11, 12));
  EXPECT_THAT(places(tree_, {1, 2, 3, 9}), ElementsAre(10, 20));
}

TEST_F(RadixTreeTest, split_leaves_the_end_its_name) {
  const NodeId end = add(tree_, {1, 2, 3, 4}, 10);
  add(tree_, {1, 2, 9, 9}, 20);
  EXPECT_EQ(find(tree_, {1, 2, 3, 4}).node, end);
  EXPECT_TRUE(tree_.is_leaf(end));
}

TEST_F(RadixTreeTest, contents_with_one_hash_never_meet) {
  add(tree_, {1, 2, 3, 4}, 10);
  add(tree_, {1, 2}, 20, kOther);
  EXPECT_THAT(places(tree_, {1, 2, 3, 4}), ElementsAre(10, 11));
  EXPECT_THAT(places(tree_, {1, 2, 3, 4}, kOther), ElementsAre(20));
  EXPECT_EQ(find(tree_, {1, 2}, {{9, 9}}).blocks, 0u);
}

TEST_F(RadixTreeTest, above_goes_back_to_the_root) {
  add(tree_, {1, 2, 3, 4});
  add(tree_, {1, 2, 9, 9});
  const auto at = find(tree_, {1, 2, 3, 4});
  const auto parent = tree_.above(at);
  EXPECT_EQ(parent.offset, 1u);
  EXPECT_EQ(parent.blocks, 1u);
  const auto root = tree_.above(parent);
  EXPECT_EQ(root.offset, 0u);
  EXPECT_EQ(root.node, tree_.root(kContent).node);
}

TEST_F(RadixTreeTest, trace_gives_the_tokens_before_an_edge) {
  add(tree_, {1, 2, 3, 4, 5, 6}, 0, kOther);
  add(tree_, {1, 2, 3, 4, 9, 9}, 0, kOther);
  add(tree_, {1, 2, 8, 8}, 0, kOther);
  Tokens before;
  EXPECT_EQ(tree_.trace(find(tree_, {1, 2, 3, 4, 9, 9}, kOther).node, before), kOther);
  EXPECT_THAT(before, ElementsAre(1, 2, 3, 4));
}

TEST_F(RadixTreeTest, cut_keeps_the_first_blocks_of_a_leaf) {
  const NodeId leaf = add(tree_, {1, 2, 3, 4, 5, 6}, 10);
  EXPECT_EQ(tree_.cut(leaf, 1), leaf);
  EXPECT_EQ(tree_.blocks(), 1u);
  EXPECT_THAT(places(tree_, {1, 2, 3, 4, 5, 6}), ElementsAre(10));
}

TEST_F(RadixTreeTest, root_goes_with_the_last_thing_below_it) {
  EXPECT_EQ(tree_.cut(add(tree_, {1, 2}), 0), kNoNode);
  EXPECT_EQ(tree_.nodes(), 0u);
  EXPECT_EQ(tree_.root(kContent).node, kNoNode);
  add(tree_, {1, 2}, 5);  // and comes back
  EXPECT_THAT(places(tree_, {1, 2}), ElementsAre(5));
}

TEST_F(RadixTreeTest, node_joins_its_only_child) {
  add(tree_, {1, 2, 3, 4, 5, 6}, 10);
  const NodeId end = find(tree_, {1, 2, 3, 4, 5, 6}).node;
  const NodeId other = add(tree_, {1, 2, 9, 9}, 20);
  const NodeId parent = tree_.cut(other, 0);
  tree_.merge_only_child(parent);
  EXPECT_EQ(tree_.nodes(), 2u);
  EXPECT_EQ(find(tree_, {1, 2, 3, 4, 5, 6}).node, end);
  EXPECT_THAT(places(tree_, {1, 2, 3, 4, 5, 6}), ElementsAre(10, 11, 12));
}

TEST_F(RadixTreeTest, node_with_two_children_stays) {
  add(tree_, {1, 2, 3, 4});
  add(tree_, {1, 2, 9, 9});
  tree_.merge_only_child(tree_.above(find(tree_, {1, 2, 3, 4})).node);
  EXPECT_EQ(tree_.nodes(), 4u);
}

TEST_F(RadixTreeTest, memory_follows_the_blocks) {
  const size_t empty = tree_.memory_bytes();
  const NodeId leaf = add(tree_, Tokens(2000, 1));
  const size_t full = tree_.memory_bytes();
  EXPECT_GE(full - empty, 2000 * sizeof(TokenId) + 1000 * sizeof(IndexSlot));
  tree_.cut(leaf, 1);
  EXPECT_LE(tree_.memory_bytes() + 1900 * sizeof(TokenId), full);
}

TEST(RadixTree, block_of_sixteen_tokens_costs_at_most_144_bytes) {
  RadixTree tree(16);
  for (TokenId prompt = 0; prompt < 64; ++prompt) {
    Tokens tokens(160 * 16, prompt);
    std::fill_n(tokens.begin(), 16 * (prompt % 32), 0);  // blocks shared with others
    const auto at = find(tree, tokens);
    const auto rest = std::span(tokens).subspan(at.blocks * 16);
    if (!rest.empty()) tree.extend(kContent, at, rest);
  }
  EXPECT_EQ(tree.audit().to_string(), "OK");
  EXPECT_LE(tree.memory_bytes(), 144 * tree.blocks());
}

struct Damage {
  const char* name;
  void (*inflict)(RadixTreeBreaker&, NodeId root, NodeId leaf);
  const char* words;
};

/// Thread: confined.
class RadixTreeAudit : public testing::TestWithParam<Damage> {};

TEST_P(RadixTreeAudit, names_what_broke) {
  RadixTree tree(kTokensPerBlock);
  const NodeId leaf = add(tree, {1, 2, 3, 4});
  RadixTreeBreaker breaker(tree);
  GetParam().inflict(breaker, tree.root(kContent).node, leaf);
  const Status status = tree.audit();
  EXPECT_EQ(status.code(), StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().words));
}

INSTANTIATE_TEST_SUITE_P(
    , RadixTreeAudit,
    testing::Values(
        Damage{"blocks", [](auto& tree, NodeId, NodeId) { tree.miscount_blocks(); }, "counts 3"},
        Damage{"tokens", [](auto& tree, NodeId, NodeId leaf) { tree.lose_a_token(leaf); },
               "one slot for each"},
        Damage{"hash", [](auto& tree, NodeId, NodeId leaf) { tree.change_first_token(leaf); },
               "is not the child"},
        Damage{"child",
               [](auto& tree, NodeId root, NodeId leaf) { tree.relink(leaf, leaf + root); },
               "is not linked"},
        Damage{"root", [](auto& tree, NodeId, NodeId leaf) { tree.unlink(leaf); },
               "nothing continues"},
        Damage{"hashed", [](auto& tree, NodeId, NodeId leaf) { tree.hash_twice(leaf); },
               "2 are hashed"},
        Damage{"split", [](auto& tree, NodeId, NodeId leaf) { tree.split_for_nothing(leaf); },
               "has one child"},
        Damage{"content", [](auto& tree, NodeId root, NodeId) { tree.forget_content(root); },
               "is no content's root"},
        Damage{"node", [](auto& tree, NodeId, NodeId) { tree.lose_a_node(); }, "is lost"}),
    [](const auto& info) { return std::string(info.param.name); });

/// How many nodes the smallest tree over these prefixes has: a root, and an end of an edge wherever
/// a prefix has no continuation or several.
size_t smallest_tree(const std::set<Tokens>& prefixes) {
  std::map<Tokens, size_t> continuations;
  for (const Tokens& prefix : prefixes) {
    ++continuations[Tokens(prefix.begin(), prefix.end() - kTokensPerBlock)];
  }
  size_t nodes = prefixes.empty() ? 0 : 1;
  for (const Tokens& prefix : prefixes) {
    const auto found = continuations.find(prefix);
    nodes += found == continuations.end() || found->second != 1;
  }
  return nodes;
}

RC_GTEST_PROP(RadixTreeProperty, tree_is_the_smallest_for_its_prefixes, ()) {
  RadixTree tree(kTokensPerBlock);
  std::set<Tokens> prefixes;
  for (int step = *rc::gen::inRange(0, 40); step > 0; --step) {
    const size_t blocks = *rc::gen::inRange<size_t>(1, 6);
    const auto tokens =
        *rc::gen::container<Tokens>(blocks * kTokensPerBlock, rc::gen::inRange<TokenId>(0, 2));
    if (*rc::gen::arbitrary<bool>()) {
      add(tree, tokens);
      for (size_t i = 1; i <= blocks; ++i) {
        prefixes.emplace(tokens.begin(),
                         tokens.begin() + static_cast<ptrdiff_t>(i * kTokensPerBlock));
      }
    } else if (const auto at = find(tree, tokens); at.blocks > 0 && tree.is_leaf(at.node)) {
      Tokens prefix(tokens.begin(),
                    tokens.begin() + static_cast<ptrdiff_t>(at.blocks * kTokensPerBlock));
      std::erase_if(prefixes, [&](const Tokens& each) {
        return each.size() >= prefix.size() &&
               std::equal(prefix.begin(), prefix.end(), each.begin());
      });
      const NodeId end = tree.cut(at.node, at.offset - 1);
      if (end != kNoNode && !tree.is_root(end)) tree.merge_only_child(end);
    }
    RC_ASSERT(tree.audit().to_string() == "OK");
    RC_ASSERT(tree.blocks() == prefixes.size());
    RC_ASSERT(tree.nodes() == smallest_tree(prefixes));
  }
}

}  // namespace
}  // namespace mempool
