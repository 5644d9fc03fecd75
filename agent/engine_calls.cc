// SPDX-License-Identifier: Apache-2.0
// Owns what each call does under the lock.
#include "agent/engine_calls.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/agent_impl.h"
#include "agent/call_checks.h"
#include "core/check.h"

namespace mempool {

std::vector<Seal> seals_of(std::span<const SealedSum> sums) {
  std::vector<Seal> seals;
  seals.reserve(sums.size());
  for (const SealedSum& sum : sums) seals.push_back({sum.position, sum.checksum});
  return seals;
}

// ---- blocks ----------------------------------------------------------------------------------

Result<std::vector<BlockAddress>> EngineCalls::alloc(size_t count, Medium medium) {
  std::vector<BlockAddress> blocks;
  const BlockPool& pool = *impl_.pool_;
  if (count <= pool.max_blocks()) blocks.reserve(count);  // more is refused below
  const std::lock_guard lock(impl_.mutex_);
  if (medium != pool.medium()) {
    return unsupported(fmt::format("this agent has no blocks in {} memory; it has {}",
                                   to_string(medium), to_string(pool.medium())));
  }
  MEMPOOL_RETURN_IF_ERROR(impl_.take_blocks(session_, count, blocks));
  return blocks;
}

Status EngineCalls::free(std::span<const BlockAddress> blocks) {
  const bool elsewhere = std::ranges::any_of(blocks, [this](const BlockAddress& block) {
    return block.incarnation != impl_.incarnation_;
  });
  Status freed;
  {
    const std::lock_guard lock(impl_.mutex_);
    freed = elsewhere ? impl_.source_->release(session_, blocks, impl_.now())
                      : impl_.pool_->free(session_, blocks);
  }
  if (elsewhere && freed.ok()) impl_.request_pump();
  return impl_.noted(std::move(freed));
}

Status EngineCalls::pin(std::span<const BlockAddress> blocks) {
  const std::lock_guard lock(impl_.mutex_);
  return impl_.noted(impl_.pool_->pin(session_, blocks));
}

Status EngineCalls::unpin(std::span<const BlockAddress> blocks) {
  const std::lock_guard lock(impl_.mutex_);
  return impl_.noted(impl_.pool_->unpin(session_, blocks));
}

Result<std::vector<BlockAddress>> EngineCalls::claim(const std::string& name,
                                                     std::span<const uint32_t> blocks) {
  const std::lock_guard lock(impl_.mutex_);
  return impl_.claim(session_, name, blocks);
}

Result<std::vector<bool>> EngineCalls::begin_copy(std::span<const BlockAddress> blocks) {
  const std::lock_guard lock(impl_.mutex_);
  std::vector<bool> copied;
  if (impl_.adoptions_.empty()) return copied;
  BlockPool& pool = *impl_.pool_;
  std::vector<BlockAddress> held;
  for (size_t position = 0; position < blocks.size(); ++position) {
    const BlockAddress& block = blocks[position];
    MEMPOOL_RETURN_IF_ERROR(impl_.noted(pool.check(block)));
    const PoolSegment& segment = *pool.segments().holding(block.index());
    if (!segment.adopted || segment.in_place) continue;
    const BlockState state = pool.state(block.index());
    const bool own = pool.pins_of(session_, block.index()) > 0 &&
                     (state == BlockState::kWriting || state == BlockState::kPrivate);
    if (!own) {
      return invalid_argument(
          fmt::format("{} is {}, or not held by the caller; claim and fill it to insert it",
                      to_string(block), to_string(state)));
    }
    copied.resize(blocks.size());
    copied[position] = true;
    held.push_back(block);
  }
  MEMPOOL_RETURN_IF_ERROR(pool.pin(kAgentSession, held));
  return copied;
}

void EngineCalls::end_copy(std::span<const BlockAddress> copied) {
  const std::lock_guard lock(impl_.mutex_);
  const Status unpinned = impl_.pool_->unpin(kAgentSession, copied);
  MEMPOOL_CHECK(unpinned.ok());
}

Status EngineCalls::check_in_place(std::span<const BlockAddress> blocks) const {
  if (impl_.adoptions_.empty()) return {};
  const BlockPool& pool = *impl_.pool_;
  for (const BlockAddress& block : blocks) {
    if (!pool.check(block).ok()) continue;  // the index says so
    const PoolSegment& segment = *pool.segments().holding(block.index());
    if (!segment.adopted || segment.in_place) continue;
    return invalid_argument(
        fmt::format("{} was adopted to be inserted as a copy; attach with this release's library",
                    to_string(block)));
  }
  return {};
}

Result<std::optional<uint64_t>> EngineCalls::begin_read(const BlockAddress& block) {
  const std::lock_guard lock(impl_.mutex_);
  BlockPool& pool = *impl_.pool_;
  MEMPOOL_RETURN_IF_ERROR(impl_.noted(pool.check(block)));
  const BlockState state = pool.state(block.index());
  if (state == BlockState::kWriting) {
    return invalid_argument(
        fmt::format("block {} is not sealed; its filler reads it by piece()", to_string(block)));
  }
  MEMPOOL_RETURN_IF_ERROR(pool.pin(session_, {&block, 1}));
  // A private block may be a tail that has filled since; its sum is of fewer tokens then.
  std::optional<uint64_t> sealed;
  if (state == BlockState::kPublished) sealed = pool.checksum(block.index());
  return sealed;
}

void EngineCalls::end_read(const BlockAddress& block, bool corrupt) {
  const std::lock_guard lock(impl_.mutex_);
  if (corrupt) {
    impl_.metrics_.checksum_failures.with().add();
    set_corrupt_aside(*impl_.pool_, *impl_.index_, block);
  }
  // The engine may have unpinned more than was its own meanwhile; the block is then no longer held.
  (void)impl_.noted(impl_.pool_->unpin(session_, {&block, 1}));
}

// ---- index -----------------------------------------------------------------------------------

Result<InsertResult> EngineCalls::inserted(Result<InsertOutcome> outcome,
                                           std::span<const BlockAddress> blocks) {
  if (!outcome.ok()) return impl_.noted(outcome.status());
  InsertResult result;
  result.admitted = outcome->admitted;
  result.serving = std::move(outcome->serving);
  for (size_t position : outcome->duplicates) result.duplicates.push_back(blocks[position]);
  return result;
}

Result<InsertResult> EngineCalls::insert(const Prompt& prompt, std::span<const BlockAddress> blocks,
                                         std::span<const SealedSum> sums) {
  const std::vector<Seal> seals = seals_of(sums);
  const std::lock_guard lock(impl_.mutex_);
  MEMPOOL_RETURN_IF_ERROR(check_model(prompt.content, impl_.content_.model));
  MEMPOOL_RETURN_IF_ERROR(check_in_place(blocks));
  return inserted(impl_.index_->insert(session_, prompt, blocks, seals), blocks);
}

MatchResult EngineCalls::match(const Prompt& prompt) {
  MatchResult result;
  result.blocks.reserve(prompt.tokens.size() / impl_.options_.content.tokens_per_block);
  {
    const std::lock_guard lock(impl_.mutex_);
    result.tokens = impl_.index_->match(session_, prompt, result.blocks);
  }
  impl_.match_hits_->add(result.tokens);
  impl_.match_misses_->add(prompt.tokens.size() - result.tokens);
  return result;
}

size_t EngineCalls::erase(const Prompt& prompt) {
  const std::lock_guard lock(impl_.mutex_);
  return impl_.index_->erase(prompt);
}

Result<InsertResult> EngineCalls::insert_keys(std::span<const ContentId> keys,
                                              std::span<const BlockAddress> blocks,
                                              std::span<const SealedSum> sums) {
  const std::vector<Seal> seals = seals_of(sums);
  const std::lock_guard lock(impl_.mutex_);
  MEMPOOL_RETURN_IF_ERROR(check_in_place(blocks));
  return inserted(impl_.index_->insert_keys(session_, keys, blocks, seals), blocks);
}

std::vector<BlockAddress> EngineCalls::match_keys(std::span<const ContentId> keys) {
  std::vector<BlockAddress> blocks;
  blocks.reserve(keys.size());
  {
    const std::lock_guard lock(impl_.mutex_);
    impl_.index_->match_keys(session_, keys, blocks);
  }
  const uint64_t block_tokens = impl_.options_.content.tokens_per_block;
  impl_.match_hits_->add(blocks.size() * block_tokens);
  impl_.match_misses_->add((keys.size() - blocks.size()) * block_tokens);
  return blocks;
}

size_t EngineCalls::erase_keys(std::span<const ContentId> keys) {
  const std::lock_guard lock(impl_.mutex_);
  return impl_.index_->erase_keys(keys);
}

// ---- transfers -------------------------------------------------------------------------------

Status EngineCalls::start(const std::string& target, TransferRequest request,
                          std::vector<SealedSum> sums, const TransferOptions& options,
                          const std::shared_ptr<Transfer::State>& state) {
  const TimePoint now = impl_.now();
  request.engine = session_;
  request.by_layer = state->in_layers();
  request.blocks = state->source_blocks;
  request.medium = options.medium;
  request.request_id = options.request_id;
  request.user_data = options.user_data;
  request.trace = options.trace;
  request.deadline = impl_.deadline_of(options, now);
  {
    const std::lock_guard lock(impl_.mutex_);
    MEMPOOL_RETURN_IF_ERROR(check_model(request.content, impl_.content_.model));
    MEMPOOL_RETURN_IF_ERROR(impl_.check_peer(target));
    impl_.note_published(*state);
    if (!request.by_layer) request.sums = state->with_stored(std::move(sums));
    Result<TransferId> id = impl_.source_->start(target, std::move(request), now);
    if (!id.ok()) return impl_.noted(id.status());
    state->id = *id;
    impl_.calls_[*id] = state;
  }
  impl_.request_pump();
  return {};
}

Status EngineCalls::transfer_with_insert(const std::string& target, const Prompt& prompt,
                                         std::vector<SealedSum> sums,
                                         const TransferOptions& options,
                                         const std::shared_ptr<Transfer::State>& state) {
  MEMPOOL_RETURN_IF_ERROR(check_transfer(prompt, state->source_blocks.size(), options,
                                         impl_.options_.content.tokens_per_block));
  TransferRequest request;
  request.content = prompt.content;
  request.tokens.assign(prompt.tokens.begin(), prompt.tokens.end());
  return start(target, std::move(request), std::move(sums), options, state);
}

Status EngineCalls::transfer(const std::string& target, std::span<const BlockAddress> places,
                             std::vector<SealedSum> sums, const TransferOptions& options,
                             const std::shared_ptr<Transfer::State>& state) {
  MEMPOOL_RETURN_IF_ERROR(check_places(state->source_blocks.size(), places, options));
  TransferRequest request;
  request.content.model = impl_.content_.model;
  request.places.assign(places.begin(), places.end());
  return start(target, std::move(request), std::move(sums), options, state);
}

Status EngineCalls::reserve(const std::string& instance, size_t count,
                            const TransferOptions& options,
                            const std::shared_ptr<Transfer::State>& state) {
  if (instance.empty() || instance == impl_.options_.name) {
    return invalid_argument("blocks of this instance itself come by alloc() without its name");
  }
  MEMPOOL_RETURN_IF_ERROR(check_reserve(count));
  TransferRequest request;
  request.content.model = impl_.content_.model;
  request.reserve = static_cast<uint32_t>(count);
  return start(instance, std::move(request), {}, options, state);
}

Status EngineCalls::fetch(const std::string& source, const Prompt& prompt,
                          const TransferOptions& options,
                          const std::shared_ptr<Transfer::State>& state) {
  const size_t block_tokens = impl_.options_.content.tokens_per_block;
  MEMPOOL_RETURN_IF_ERROR(check_fetch(prompt, options, block_tokens));
  if (!state->source_blocks.empty()) {
    return invalid_argument("a fetch takes places of its own for what it brings; name no blocks");
  }
  const auto tokens = prompt.tokens.first(prompt.tokens.size() / block_tokens * block_tokens);
  FetchPlaces& places = state->fetch.emplace();
  places.engine = session_;
  places.content = prompt.content;
  places.tokens.assign(tokens.begin(), tokens.end());
  const TimePoint now = impl_.now();
  {
    const std::lock_guard lock(impl_.mutex_);
    MEMPOOL_RETURN_IF_ERROR(check_model(prompt.content, impl_.content_.model));
    MEMPOOL_RETURN_IF_ERROR(impl_.check_peer(source));
    impl_.index_->match(session_, {prompt.content, tokens}, places.held);
    const Status started = find_room(source, options, now, *state);
    if (!started.ok()) {
      impl_.let_go(places);
      return started;
    }
    if (!places.places.empty()) impl_.calls_[state->id] = state;
  }
  if (places.places.empty()) {  // there is nobody to ask
    TransferReport report;
    report.tokens = report.tokens_matched = tokens.size();
    report.serving = places.held;
    state->end({}, std::move(report));
  }
  impl_.request_pump();
  return {};
}

// Take places for what is not here, and ask for their bytes.
Status EngineCalls::find_room(const std::string& source, const TransferOptions& options,
                              TimePoint now, Transfer::State& state) {
  FetchPlaces& places = *state.fetch;
  const size_t whole = places.tokens.size() / impl_.options_.content.tokens_per_block;
  if (places.held.size() == whole) return {};
  MEMPOOL_RETURN_IF_ERROR(impl_.take_places(places, whole));
  TransferRequest request;
  request.fetch = true;
  request.have = static_cast<uint32_t>(places.held.size());
  request.content = places.content;
  request.tokens = places.tokens;
  request.blocks = places.places;
  request.request_id = options.request_id;
  request.trace = options.trace;
  request.deadline = impl_.deadline_of(options, now);
  MEMPOOL_ASSIGN_OR_RETURN(state.id, impl_.source_->start(source, std::move(request), now));
  return {};
}

void EngineCalls::commit(const Transfer::State& call, std::vector<SealedSum> sums) {
  {
    const std::lock_guard lock(impl_.mutex_);
    if (!impl_.source_->check_commit(call.id).ok()) return;  // it has ended; its end tells how
    impl_.source_->commit(call.id, call.with_stored(std::move(sums)), impl_.now());
  }
  impl_.request_pump();
}

void EngineCalls::on_received() {
  const std::lock_guard lock(impl_.mutex_);
  impl_.target_->on_received();
}

void EngineCalls::add_peer(const std::string& name, const std::string& address) {
  const std::lock_guard lock(impl_.mutex_);
  impl_.peers_[name] = address;
}

}  // namespace mempool
