// SPDX-License-Identifier: Apache-2.0
// Owns the public calls of the flat door: keys are checked and hashed before the lock.
#include <utility>

#include <fmt/format.h>

#include "agent/agent_impl.h"
#include "core/canonical.h"
#include "core/check.h"

namespace mempool {
namespace {

Result<std::vector<ContentId>> hashed(std::span<const std::string_view> keys) {
  if (keys.size() > kKeysMax) {
    return invalid_argument(
        fmt::format("a list of {} keys; give at most {} in one call", keys.size(), kKeysMax));
  }
  std::vector<ContentId> ids;
  ids.reserve(keys.size());
  for (const std::string_view key : keys) {
    if (key.empty() || key.size() > kKeyBytesMax) {
      return invalid_argument(fmt::format("key {} of the list has {} bytes; give 1 to {}",
                                          ids.size(), key.size(), kKeyBytesMax));
    }
    MEMPOOL_ASSIGN_OR_RETURN(const ContentId id, key_hash(key));
    ids.push_back(id);
  }
  return ids;
}

}  // namespace

Result<InsertResult> Agent::insert_keys(std::span<const std::string_view> keys,
                                        std::span<const BlockAddress> blocks) {
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<ContentId> ids, hashed(keys));
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<Seal> seals, impl_->seals_of(blocks));
  const std::lock_guard lock(impl_->mutex_);
  Result<InsertOutcome> outcome = impl_->index_->insert_keys(kCallerSession, ids, blocks, seals);
  return impl_->insert_result(std::move(outcome), blocks);
}

Result<std::vector<BlockAddress>> Agent::match_keys(std::span<const std::string_view> keys) {
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<ContentId> ids, hashed(keys));
  std::vector<BlockAddress> blocks;
  blocks.reserve(ids.size());
  {
    const std::lock_guard lock(impl_->mutex_);
    impl_->index_->match_keys(kCallerSession, ids, blocks);
  }
  const uint64_t block_tokens = impl_->options_.content.tokens_per_block;
  impl_->match_hits_->add(blocks.size() * block_tokens);
  impl_->match_misses_->add((keys.size() - blocks.size()) * block_tokens);
  return blocks;
}

Result<size_t> Agent::erase_keys(std::span<const std::string_view> keys) {
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<ContentId> ids, hashed(keys));
  const std::lock_guard lock(impl_->mutex_);
  return impl_->index_->erase_keys(ids);
}

}  // namespace mempool
