// SPDX-License-Identifier: Apache-2.0
// Owns the local index's calls: each joins the tree, the pool's states and pins, and the policy.
#include "index/local_index.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "core/check.h"

namespace mempool {

LocalIndex::LocalIndex(BlockPool& pool, std::unique_ptr<EvictionPolicy> policy, ChangeSink sink,
                       std::unique_ptr<AdmissionPolicy> admission, TenantRules tenants)
    : pool_(pool),
      policy_(std::move(policy)),
      admission_(std::move(admission)),
      sink_(std::move(sink)),
      tree_(pool.shape().tokens_per_block),
      key_tokens_(pool.shape().tokens_per_block),
      shares_(std::move(tenants)),
      orders_(shares_.all().size()),
      listed_(pool.max_blocks()) {}

std::span<const TokenId> LocalIndex::whole_blocks(std::span<const TokenId> tokens) const {
  return tokens.first(tokens.size() - tokens.size() % tree_.tokens_per_block());
}

BlockAddress LocalIndex::address(const IndexSlot& slot) const {
  return {pool_.incarnation(), slot.generation, slot.place};
}

// ---- insert ----------------------------------------------------------------------------------

Result<InsertOutcome> LocalIndex::insert(SessionId session, const Prompt& prompt,
                                         std::span<const BlockAddress> blocks,
                                         std::span<const Seal> seals) {
  const auto tokens = whole_blocks(prompt.tokens);
  const size_t count = tokens.size() / tree_.tokens_per_block();
  if (blocks.size() != count) {
    return invalid_argument(
        fmt::format("insert got {} blocks for the {} whole blocks of {} tokens; give one for each",
                    blocks.size(), count, prompt.tokens.size()));
  }
  expire();
  InsertOutcome outcome;
  auto at = find_serving(prompt.content.id, tokens, blocks, outcome);
  const auto published = std::span<const BlockAddress>(outcome.serving).first(at.blocks);
  MEMPOOL_RETURN_IF_ERROR(check_list(session, blocks, published));
  outcome.admitted = at.blocks == count ? count : admit(session, prompt, blocks, at.blocks);
  const uint32_t owner = at.node == kNoNode ? 0 : tree_.owner(at.node);
  const uint32_t share = owner == 0 ? shares_.find(prompt.content.tenant) : owner;
  const size_t more = outcome.admitted - at.blocks;
  const bool named = at.node != kNoNode && more > 0 && share != owner;
  if (named) give(prompt.content.id, share);
  if (shares_.excess(share, more) > 0) {
    const auto prefix = std::span<const BlockAddress>(outcome.serving).first(at.blocks);
    const Status kept = keep_quota(session, share, prefix, more);
    if (!kept.ok() && named) give(prompt.content.id, owner);
    MEMPOOL_RETURN_IF_ERROR(kept);
    at = tree_.root(prompt.content.id);  // what was cut may have joined edges
    while (tree_.descend(tokens, at)) continue;
  }

  ++tick_;
  for (auto up = at; up.offset > 0; up = tree_.above(up)) {
    for (IndexSlot& slot : tree_.slots(up.node).first(up.offset)) slot.use.last_use = tick_;
  }
  outcome.serving.resize(outcome.admitted);
  if (outcome.admitted == at.blocks) return outcome;

  for (const BlockAddress& block : blocks.first(outcome.admitted).subspan(at.blocks)) {
    drop_old_seal(block.index());
  }
  for (const Seal& seal : seals) {
    MEMPOOL_CHECK(seal.position < count);
    if (seal.position < at.blocks || seal.position >= outcome.admitted) continue;
    pool_.seal(blocks[seal.position].index(), seal.checksum);
  }
  store(prompt.content.id, at, tokens.first(outcome.admitted * tree_.tokens_per_block()),
        blocks.first(outcome.admitted).subspan(at.blocks), at.blocks, share);
  return outcome;
}

void LocalIndex::store(const ContentId& content, const RadixTree::Position& at,
                       std::span<const TokenId> tokens, std::span<const BlockAddress> blocks,
                       size_t first, uint32_t share) {
  const size_t held = at.blocks * tree_.tokens_per_block();
  const NodeId leaf = tree_.extend(content, at, tokens.subspan(held), share);
  publish(tree_.slots(leaf).last(blocks.size()), blocks, first);
  shares_.publish(share, blocks.size());
  enqueue(leaf);
  record(ChangeRecord::Kind::kStored, content, tokens.first(held), tokens.subspan(held));
}

size_t LocalIndex::admit(SessionId session, const Prompt& prompt,
                         std::span<const BlockAddress> blocks, size_t held) {
  const bool asks = admission_ != nullptr && is_engine(session);
  if (!asks && !policy_->tracks()) return blocks.size();
  prints_.clear();
  append_prefix_prints(prompt.content.id, prompt.tokens, tree_.tokens_per_block(), prints_);
  if (!asks) return blocks.size();
  size_t admitted = held;
  for (size_t i = held; i < blocks.size(); ++i) {  // each is remembered, also behind a refused one
    if (admission_->admits(prints_[i], blocks[i]) && admitted == i) ++admitted;
  }
  return admitted;
}

RadixTree::Position LocalIndex::find_serving(const ContentId& content,
                                             std::span<const TokenId> tokens,
                                             std::span<const BlockAddress> blocks,
                                             InsertOutcome& outcome) const {
  outcome.serving.assign(blocks.begin(), blocks.end());
  auto at = tree_.root(content);
  while (tree_.descend(tokens, at)) {
    size_t position = at.blocks - at.offset;
    for (const IndexSlot& slot : tree_.slots(at.node).first(at.offset)) {
      outcome.serving[position] = address(slot);
      if (outcome.serving[position] != blocks[position]) outcome.duplicates.push_back(position);
      ++position;
    }
  }
  return at;
}

Status LocalIndex::check_list(SessionId session, std::span<const BlockAddress> blocks,
                              std::span<const BlockAddress> published) {
  const auto is_published = [&](size_t position) {
    return position < published.size() && published[position] == blocks[position];
  };
  Status status;
  size_t position = 0;
  for (; position < blocks.size(); ++position) {
    if (is_published(position)) continue;
    status = check_unpublished(session, blocks[position]);
    if (!status.ok()) break;
    listed_[blocks[position].index()] = true;
  }
  const size_t checked = position;
  for (position = 0; position < checked; ++position) {
    if (!is_published(position)) listed_[blocks[position].index()] = false;
  }
  if (status.ok()) return status;
  return status.with_context(fmt::format("block {} of the inserted list", checked));
}

Status LocalIndex::check_unpublished(SessionId session, const BlockAddress& block) const {
  MEMPOOL_RETURN_IF_ERROR(pool_.check(block));
  if (pool_.state(block.index()) == BlockState::kPublished) {
    return invalid_argument(fmt::format(
        "{} is published under other tokens; copy it to insert it here too", to_string(block)));
  }
  if (pool_.state(block.index()) == BlockState::kQuarantined) {
    return invalid_argument(fmt::format(
        "{} is set aside, its bytes are not to be trusted; insert a fresh copy", to_string(block)));
  }
  if (is_engine(session) && pool_.state(block.index()) == BlockState::kReserved) {
    return invalid_argument(
        fmt::format("{} is being filled by a peer's transfer; insert it when it has arrived",
                    to_string(block)));
  }
  if (pool_.pins_of(session, block.index()) == 0) {
    return invalid_argument(fmt::format("{} is not held by session {}; allocate or pin it first",
                                        to_string(block), session));
  }
  if (listed_[block.index()]) {
    return invalid_argument(
        fmt::format("{} is listed twice; each token block needs its own", to_string(block)));
  }
  return {};
}

// A private block may have filled since it was sealed: it is published with the seal that comes
// with the list, or with none.
void LocalIndex::drop_old_seal(uint32_t index) {
  if (pool_.state(index) == BlockState::kPrivate) pool_.seal(index, std::nullopt);
}

void LocalIndex::publish(std::span<IndexSlot> slots, std::span<const BlockAddress> blocks,
                         size_t first) {
  for (size_t i = 0; i < slots.size(); ++i) {
    const uint32_t index = blocks[i].index();
    if (pool_.state(index) != BlockState::kPrivate) pool_.seal(index, std::nullopt);
    pool_.publish(index);
    slots[i] = {blocks[i].place, blocks[i].generation, {.last_use = tick_}};
  }
  if (!policy_->tracks()) return;
  for (size_t i = 0; i < slots.size(); ++i) {
    slots[i].use.print = prints_[first + i];
    policy_->on_insert(slots[i].use);
  }
}

// ---- match -----------------------------------------------------------------------------------

size_t LocalIndex::match(SessionId session, const Prompt& prompt, std::vector<BlockAddress>& out) {
  expire();
  ++tick_;
  auto at = tree_.root(prompt.content.id);
  while (tree_.descend(prompt.tokens, at)) {
    for (IndexSlot& slot : tree_.slots(at.node).first(at.offset)) {
      slot.use.last_use = tick_;
      slot.use.hits += slot.use.hits < UINT32_MAX;
      pool_.pin_published(session, slot.index());
      out.push_back(address(slot));
    }
  }
  return at.blocks * tree_.tokens_per_block();
}

size_t LocalIndex::peek(const Prompt& prompt) const {
  auto at = tree_.root(prompt.content.id);
  while (tree_.descend(prompt.tokens, at)) continue;
  return at.blocks * tree_.tokens_per_block();
}

// ---- removal ---------------------------------------------------------------------------------

size_t LocalIndex::erase(const Prompt& prompt) {
  const auto tokens = whole_blocks(prompt.tokens);
  auto at = tree_.root(prompt.content.id);
  while (tree_.descend(tokens, at)) continue;
  const bool whole = at.blocks > 0 && at.blocks * tree_.tokens_per_block() == tokens.size();
  return whole ? remove(at.node, at.offset - 1) : 0;
}

size_t LocalIndex::erase_blocks(std::span<const uint32_t> blocks) {
  const size_t before = tree_.blocks();
  for (const uint32_t block : blocks) listed_[block] = true;
  for (bool found = true; std::exchange(found, false);) {  // what merges may have been passed by
    tree_.for_each_node([this, &found](NodeId node) {
      const auto slots = tree_.slots(node);
      const auto first = std::ranges::find_if(
          slots, [this](const IndexSlot& slot) { return listed_[slot.index()]; });
      if (first == slots.end()) return;
      remove(node, static_cast<size_t>(first - slots.begin()));
      found = true;
    });
  }
  for (const uint32_t block : blocks) listed_[block] = false;
  return before - tree_.blocks();
}

size_t LocalIndex::remove(NodeId node, size_t keep) {
  const size_t before = tree_.blocks();
  while (!tree_.is_leaf(node)) cut_leaf(tree_.first_leaf(node), 0, /*evicted=*/false);
  settle(cut_leaf(node, keep, /*evicted=*/false));
  return before - tree_.blocks();
}

NodeId LocalIndex::cut_leaf(NodeId leaf, size_t keep, bool evicted) {
  const auto gone = tree_.slots(leaf).subspan(keep);
  if (sink_) {
    const auto edge = tree_.tokens(leaf);
    const auto kept = edge.first(keep * tree_.tokens_per_block());
    before_.clear();
    const ContentId root = tree_.trace(leaf, before_);
    before_.insert(before_.end(), kept.begin(), kept.end());
    record(ChangeRecord::Kind::kRemoved, root, before_, edge.subspan(kept.size()));
  }
  for (const IndexSlot& slot : gone) pool_.unpublish(slot.index());
  if (policy_->tracks()) {
    for (const IndexSlot& slot : gone) policy_->on_remove(slot.use, evicted);
  }
  shares_.unpublish(tree_.owner(leaf), gone.size());
  dequeue(leaf);
  return tree_.cut(leaf, keep);
}

void LocalIndex::settle(NodeId node) {
  if (node == kNoNode || tree_.is_root(node)) return;
  if (tree_.is_leaf(node)) {
    enqueue(node);
  } else {
    tree_.merge_only_child(node);
  }
}

// ---- for others --------------------------------------------------------------------------------

void LocalIndex::record(ChangeRecord::Kind kind, const ContentId& root,
                        std::span<const TokenId> parent, std::span<const TokenId> tokens) {
  if (!sink_) return;
  sink_({.kind = kind,
         .sequence = ++sequence_,
         .root = root,
         .parent = parent,
         .tokens = tokens,
         .medium = pool_.medium()});
}

size_t LocalIndex::memory_bytes() const {
  constexpr size_t kOrderEntryBytes = 4 * sizeof(void*) + sizeof(Leaf);  // a red-black tree's node
  size_t leaves = 0;
  for (const Order& order : orders_) leaves += order.size();
  return tree_.memory_bytes() + leaves * kOrderEntryBytes + policy_->memory_bytes() +
         (admission_ == nullptr ? 0 : admission_->memory_bytes()) +
         queued_rank_.capacity() * sizeof(uint64_t) + listed_.capacity() / 8 +
         before_.capacity() * sizeof(TokenId) + prints_.capacity() * sizeof(PrefixPrint);
}

}  // namespace mempool
