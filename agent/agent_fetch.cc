// SPDX-License-Identifier: Apache-2.0
// Owns the call that pulls: places for what is missing here, and what becomes of them in the end.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/agent_impl.h"
#include "agent/wire.h"
#include "core/check.h"
#include "core/log.h"

namespace mempool {

Result<Transfer> Agent::fetch(const std::string& source, const Prompt& prompt,
                              const TransferOptions& options) {
  const size_t block_tokens = impl_->options_.content.tokens_per_block;
  const size_t whole = prompt.tokens.size() / block_tokens;
  if (whole == 0) {
    return invalid_argument(
        fmt::format("a fetch brings whole blocks of {} tokens, the prompt has {}", block_tokens,
                    prompt.tokens.size()));
  }
  if (prompt.tokens.size() > kOfferTokensMax || whole > kFetchBlocksMax) {
    return invalid_argument(
        fmt::format("at most {} tokens and {} blocks a fetch", kOfferTokensMax, kFetchBlocksMax));
  }
  if (options.mode != TransferMode::kByRequest || !options.ready.reached()) {
    return invalid_argument("a fetch has neither layers nor a fence to wait for");
  }
  const auto tokens = prompt.tokens.first(whole * block_tokens);
  auto state = std::make_shared<Transfer::State>();
  state->owner = impl_.get();
  state->gate = impl_->visitors_;
  state->on_done = options.on_done;
  FetchPlaces& places = state->fetch.emplace();
  places.content = prompt.content;
  places.tokens.assign(tokens.begin(), tokens.end());
  const TimePoint now = impl_->now();
  {
    const std::lock_guard lock(impl_->mutex_);
    MEMPOOL_RETURN_IF_ERROR(impl_->check_content(prompt.content));
    MEMPOOL_RETURN_IF_ERROR(impl_->check_peer(source));
    impl_->index_->match(kCallerSession, {prompt.content, tokens}, places.held);
    const Status started = impl_->start_fetch(source, options, now, *state);
    if (!started.ok()) {
      impl_->let_go(places);
      return started;
    }
    if (!places.places.empty()) impl_->calls_[state->id] = state;
  }
  if (places.places.empty()) {  // there is nobody to ask
    TransferReport report;
    report.tokens = report.tokens_matched = tokens.size();
    report.serving = places.held;
    state->end({}, std::move(report));
  }
  impl_->request_pump();
  return Transfer(std::move(state));
}

Status Agent::Impl::start_fetch(const std::string& source, const TransferOptions& options,
                                TimePoint now, Transfer::State& state) {
  FetchPlaces& places = *state.fetch;
  const size_t whole = places.tokens.size() / options_.content.tokens_per_block;
  if (places.held.size() == whole) return {};
  MEMPOOL_RETURN_IF_ERROR(take_blocks(whole - places.held.size(), places.places));
  TransferRequest request;
  request.fetch = true;
  request.have = static_cast<uint32_t>(places.held.size());
  request.content = places.content;
  request.tokens = places.tokens;
  request.blocks = places.places;
  request.request_id = options.request_id;
  request.trace = options.trace;
  request.deadline = deadline_of(options, now);
  MEMPOOL_ASSIGN_OR_RETURN(state.id, source_->start(source, std::move(request), now));
  return {};
}

void Agent::Impl::let_go(const FetchPlaces& places) {
  // The caller may have unpinned more of what was here than was his.
  if (const Status held = pool_->unpin(kCallerSession, places.held); !held.ok()) {
    log().warning("blocks held for a fetch were unpinned by somebody else: {}", held.to_string());
  }
  const Status others = pool_->unpin(kCallerSession, places.places);
  MEMPOOL_CHECK(others.ok());  // the caller has never seen them
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
    const Status pinned = pool_->pin(kCallerSession, outcome->serving);
    MEMPOOL_CHECK(pinned.ok());  // the index has just answered with them
  }
  const Status unpinned = pool_->unpin(kAgentSession, blocks);
  MEMPOOL_CHECK(unpinned.ok());
  if (!outcome.ok()) return outcome.status();
  return std::move(outcome->serving);
}

// The call has ended: publish what was filled, pinned for the caller, and give back the rest. What
// a failed fetch may still land in stays pinned by the machine.
void Agent::Impl::take_fetched(FetchPlaces& places, EndCall& end) {
  std::vector<BlockAddress> blocks = places.held;
  if (end.status.ok()) {
    const auto filled = std::span(places.places).first(end.fetched);
    blocks.insert(blocks.end(), filled.begin(), filled.end());
  }
  std::vector<Seal> seals;
  if (end.status.ok()) {
    Result<std::vector<Seal>> made = seals_of(blocks);
    end.status = made.status();  // what was held may have been set aside meanwhile
    if (made.ok()) seals = std::move(*made);
  }
  const std::lock_guard lock(mutex_);
  if (end.status.ok() && !blocks.empty()) {
    Result<std::vector<BlockAddress>> serving = publish_fetched(places, blocks, seals);
    if (serving.ok()) end.report.serving = std::move(*serving);
    end.status = serving.status();
  }
  let_go(places);
}

}  // namespace mempool
