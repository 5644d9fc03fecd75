// SPDX-License-Identifier: Apache-2.0
// Owns the places that a fetch is given, and what becomes of them when it ends.
#include <algorithm>
#include <utility>

#include "agent/agent_impl.h"
#include "core/check.h"
#include "core/log.h"

namespace mempool {

Status Agent::Impl::take_places(FetchPlaces& places, size_t whole) {
  const size_t missing = whole - places.held.size();
  const uint64_t tenant = places.content.tenant;
  MEMPOOL_RETURN_IF_ERROR(index_->make_room(missing, tenant, whole));
  MEMPOOL_RETURN_IF_ERROR(
      pool_->alloc(kAgentSession, missing, BlockState::kWriting, places.places));
  places.awaited = missing;
  index_->await(tenant, missing);
  return {};
}

void Agent::Impl::unawait(FetchPlaces& places) {
  index_->unawait(places.content.tenant, std::exchange(places.awaited, 0));
}

void Agent::Impl::let_go(FetchPlaces& places) {
  unawait(places);
  // The caller may have unpinned more of what was here than was his.
  if (const Status held = pool_->unpin(places.engine, places.held); !held.ok()) {
    log().warning("blocks held for a fetch were unpinned by somebody else: {}", held.to_string());
  }
  const Status others = pool_->unpin(kAgentSession, places.places);
  MEMPOOL_CHECK(others.ok());
}

Result<std::vector<BlockAddress>> Agent::Impl::publish_fetched(const FetchPlaces& places,
                                                               std::span<const BlockAddress> blocks,
                                                               std::span<const Seal> seals) {
  const auto tokens =
      std::span(places.tokens).first(blocks.size() * options_.content.tokens_per_block);
  // By the agent's own session: what was asked for of a peer is admitted whatever the policy.
  if (!pool_->pin(kAgentSession, blocks).ok()) {
    return corruption("a block that was held here was set aside while the rest was fetched");
  }
  Result<InsertOutcome> outcome =
      index_->insert(kAgentSession, {places.content, tokens}, blocks, seals);
  if (outcome.ok()) {
    const Status pinned = pool_->pin(places.engine, outcome->serving);
    MEMPOOL_CHECK(pinned.ok());  // the index has just answered with them
  }
  const Status unpinned = pool_->unpin(kAgentSession, blocks);
  MEMPOOL_CHECK(unpinned.ok());
  if (!outcome.ok()) return outcome.status();
  return std::move(outcome->serving);
}

// The call has ended: publish what was filled, pinned for its engine, and give back the rest. What
// a failed fetch may still land in stays pinned by the machine.
void Agent::Impl::take_fetched(FetchPlaces& places, EndCall& end) {
  std::vector<BlockAddress> blocks = places.held;
  if (end.status.ok()) {
    const auto filled = std::span(places.places).first(end.fetched);
    blocks.insert(blocks.end(), filled.begin(), filled.end());
  }
  std::vector<Seal> seals;
  if (end.status.ok()) {
    const Result<std::vector<SealedSum>> sums = sums_of(blocks);
    end.status = sums.status();  // what was held may have been set aside meanwhile
    if (sums.ok()) seals = seals_of(*sums);
  }
  const std::lock_guard lock(mutex_);
  unawait(places);  // from here on the quota counts what is published
  if (end.status.ok() && !blocks.empty()) {
    Result<std::vector<BlockAddress>> serving = publish_fetched(places, blocks, seals);
    if (serving.ok()) end.report.serving = std::move(*serving);
    end.status = serving.status();
  }
  let_go(places);
}

}  // namespace mempool
