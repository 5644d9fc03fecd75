// SPDX-License-Identifier: Apache-2.0
// Owns the flat door of the local index: a key is a content of its own, with one block below it, so
// pins, policies, change records and the audit are those of prompts.
#include <fmt/format.h>

#include <algorithm>
#include <ranges>

#include "core/check.h"
#include "index/local_index.h"

namespace mempool {

IndexSlot* LocalIndex::find_key(const ContentId& key) {
  auto at = tree_.root(key);
  return tree_.descend(key_tokens_, at) ? &tree_.slots(at.node).front() : nullptr;
}

Result<InsertOutcome> LocalIndex::insert_keys(SessionId session, std::span<const ContentId> keys,
                                              std::span<const BlockAddress> blocks,
                                              std::span<const Seal> seals) {
  if (blocks.size() != keys.size()) {
    return invalid_argument(fmt::format("insert got {} blocks for {} keys; give one for each",
                                        blocks.size(), keys.size()));
  }
  expire();
  InsertOutcome outcome;
  outcome.serving.resize(blocks.size());  // no address is all zeros
  for (size_t i = 0; i < keys.size(); ++i) {
    if (const IndexSlot* held = find_key(keys[i])) outcome.serving[i] = address(*held);
  }
  MEMPOOL_RETURN_IF_ERROR(check_list(session, blocks, outcome.serving));
  outcome.admitted = admit_keys(session, keys, blocks, outcome.serving);
  outcome.serving.resize(outcome.admitted);
  std::vector<const Seal*> seal_of(blocks.size(), nullptr);
  for (const Seal& seal : seals) seal_of.at(seal.position) = &seal;
  for (size_t i = outcome.admitted; i-- > 0;) {
    ++tick_;
    if (IndexSlot* held = find_key(keys[i])) {
      held->use.last_use = tick_;
      outcome.serving[i] = address(*held);
      if (outcome.serving[i] != blocks[i]) outcome.duplicates.push_back(i);
      continue;
    }
    drop_old_seal(blocks[i].index());
    if (seal_of[i] != nullptr) pool_.seal(blocks[i].index(), seal_of[i]->checksum);
    store(keys[i], tree_.root(keys[i]), key_tokens_, blocks.subspan(i, 1), i);
    outcome.serving[i] = blocks[i];
  }
  std::ranges::reverse(outcome.duplicates);
  return outcome;
}

size_t LocalIndex::admit_keys(SessionId session, std::span<const ContentId> keys,
                              std::span<const BlockAddress> blocks,
                              std::span<const BlockAddress> published) {
  const bool asks = admission_ != nullptr && is_engine(session);
  if (!asks && !policy_->tracks()) return blocks.size();
  prints_.clear();
  for (const ContentId& key : keys) {
    append_prefix_prints(key, key_tokens_, tree_.tokens_per_block(), prints_);
  }
  if (!asks) return blocks.size();
  size_t admitted = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {  // each is remembered, also behind a refused one
    const bool held = published[i] != BlockAddress();
    if ((held || admission_->admits(prints_[i], blocks[i])) && admitted == i) ++admitted;
  }
  return admitted;
}

size_t LocalIndex::match_keys(SessionId session, std::span<const ContentId> keys,
                              std::vector<BlockAddress>& out) {
  expire();
  std::vector<IndexSlot*> found;
  for (const ContentId& key : keys) {
    IndexSlot* slot = find_key(key);
    if (slot == nullptr) break;
    pool_.pin_published(session, slot->index());
    out.push_back(address(*slot));
    found.push_back(slot);
  }
  for (IndexSlot* slot : std::views::reverse(found)) {
    slot->use.last_use = ++tick_;
    slot->use.hits += slot->use.hits < UINT32_MAX;
  }
  return found.size();
}

size_t LocalIndex::erase_keys(std::span<const ContentId> keys) {
  size_t erased = 0;
  for (const ContentId& key : keys) {
    auto at = tree_.root(key);
    if (tree_.descend(key_tokens_, at)) erased += remove(at.node, 0);
  }
  return erased;
}

}  // namespace mempool
