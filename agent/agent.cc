// SPDX-License-Identifier: Apache-2.0
// Owns the public calls as the engine's own process makes them: blocks are hashed here, in the
// caller's thread, and what needs the lock is asked of EngineCalls.
#include "mempool/agent.h"

#include <utility>

#include <fmt/format.h>

#include "agent/agent_impl.h"
#include "agent/block_copy.h"
#include "agent/call_checks.h"
#include "agent/copied_insert.h"
#include "core/check.h"

namespace mempool {

Agent::Agent(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Agent::~Agent() {
  // A fork has copies of the thread's data but no thread to stop, and the parent's sockets.
  if (!impl_->made_in_.here()) (void)impl_.release();
}

Result<std::unique_ptr<Agent>> Agent::start(const AgentOptions& options) {
  auto impl = std::make_unique<Impl>(options);
  MEMPOOL_RETURN_IF_ERROR(impl->start());
  return std::unique_ptr<Agent>(new Agent(std::move(impl)));
}

Result<Content> Agent::content(const ContentSpec& spec) const {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  return name_content(spec, impl_->options_.content, impl_->content_.model);
}

// ---- blocks ----------------------------------------------------------------------------------

Result<std::vector<BlockAddress>> Agent::alloc(size_t count, Medium medium) {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  return impl_->embedded_.alloc(count, medium);
}

Result<std::vector<BlockAddress>> Agent::alloc(size_t count, Medium medium,
                                               const std::string& instance,
                                               std::chrono::milliseconds deadline) {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  const TransferOptions options{.deadline = deadline, .medium = medium};
  auto state = std::make_shared<Transfer::State>(*impl_, impl_->visitors_, options,
                                                 std::span<const BlockAddress>());
  MEMPOOL_RETURN_IF_ERROR(impl_->embedded_.reserve(instance, count, options, state));
  return held_at_peer(Transfer(std::move(state)));
}

Status Agent::free(std::span<const BlockAddress> blocks) {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  return impl_->embedded_.free(blocks);
}

Status Agent::pin(std::span<const BlockAddress> blocks) {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  return impl_->embedded_.pin(blocks);
}

Status Agent::unpin(std::span<const BlockAddress> blocks) {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  return impl_->embedded_.unpin(blocks);
}

Result<std::span<std::byte>> Agent::piece(const BlockAddress& block, uint32_t layer, uint32_t part,
                                          uint32_t shard) const {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  const std::lock_guard lock(impl_->mutex_);
  MEMPOOL_RETURN_IF_ERROR(impl_->noted(impl_->pool_->check(block)));
  MEMPOOL_RETURN_IF_ERROR(check_piece(layout(), shards(), layer, part, shard));
  const BlockView view = impl_->pool_->view(block.index(), shard);
  return std::span(view.piece(layer, part), view.layout->piece_bytes);
}

uint32_t Agent::shards() const {
  return impl_->pool_->shards();
}

const BlockLayout& Agent::layout(size_t segment, uint32_t shard) const {
  const std::span<const PoolSegment* const> segments = impl_->pool_->segments().all();
  return segments[segments.size() / shards() * shard + segment]->layout;
}

Result<SegmentView> Agent::segment(size_t segment, uint32_t shard) const {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  const std::lock_guard lock(impl_->mutex_);
  return segment_view(impl_->pool_->segments(), segment, shard, impl_->options_.content.element);
}

Status Agent::read(const BlockAddress& block, std::span<std::byte> out) {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  MEMPOOL_RETURN_IF_ERROR(check_buffer(out, impl_->pool_->block_bytes()));
  MEMPOOL_ASSIGN_OR_RETURN(const std::optional<uint64_t> sealed,
                           impl_->embedded_.begin_read(block));
  const Status status = copy_block(impl_->pool_->views(block.index()), block, sealed, out);
  impl_->embedded_.end_read(block, !status.ok());
  return status;
}

// ---- memory of the engine's own --------------------------------------------------------------

Status Agent::adopt(const std::string& name, const AdoptOptions& options) {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  return impl_->adopt_embedded(name, options);
}

Result<std::vector<BlockAddress>> Agent::claim(const std::string& name,
                                               std::span<const uint32_t> blocks) {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  return impl_->embedded_.claim(name, blocks);
}

Status Agent::withdraw(const std::string& name, std::chrono::milliseconds timeout) {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  return impl_->withdraw_embedded(name, timeout);
}

// ---- index -----------------------------------------------------------------------------------

Result<InsertResult> Agent::insert(const Prompt& prompt, std::span<const BlockAddress> blocks) {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  MEMPOOL_RETURN_IF_ERROR(check_insert(prompt, blocks.size(), layout().tokens));
  const auto insert = [&](std::span<const BlockAddress> list) -> Result<InsertResult> {
    MEMPOOL_ASSIGN_OR_RETURN(const std::vector<SealedSum> sums, impl_->sums_of(list));
    return impl_->embedded_.insert(prompt, list, sums);
  };
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<bool> copied, impl_->embedded_.begin_copy(blocks));
  return insert_copies(*this, blocks, copied, &prompt, insert,
                       [this](auto held) { impl_->embedded_.end_copy(held); });
}

MatchResult Agent::match(const Prompt& prompt) {
  if (!impl_->made_in_.here()) return {};
  return impl_->embedded_.match(prompt);
}

size_t Agent::erase(const Prompt& prompt) {
  if (!impl_->made_in_.here()) return 0;
  return impl_->embedded_.erase(prompt);
}

Result<InsertResult> Agent::insert_keys(std::span<const std::string_view> keys,
                                        std::span<const BlockAddress> blocks) {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<ContentId> ids, hash_keys(keys));
  const auto insert = [&](std::span<const BlockAddress> list) -> Result<InsertResult> {
    MEMPOOL_ASSIGN_OR_RETURN(const std::vector<SealedSum> sums, impl_->sums_of(list));
    return impl_->embedded_.insert_keys(ids, list, sums);
  };
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<bool> copied, impl_->embedded_.begin_copy(blocks));
  return insert_copies(*this, blocks, copied, nullptr, insert,
                       [this](auto held) { impl_->embedded_.end_copy(held); });
}

Result<std::vector<BlockAddress>> Agent::match_keys(std::span<const std::string_view> keys) {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<ContentId> ids, hash_keys(keys));
  return impl_->embedded_.match_keys(ids);
}

Result<size_t> Agent::erase_keys(std::span<const std::string_view> keys) {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<ContentId> ids, hash_keys(keys));
  return impl_->embedded_.erase_keys(ids);
}

// ---- transfers -------------------------------------------------------------------------------

Result<Transfer> Agent::transfer_with_insert(const std::string& target, const Prompt& prompt,
                                             std::span<const BlockAddress> blocks,
                                             const TransferOptions& options) {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  MEMPOOL_RETURN_IF_ERROR(
      check_transfer(prompt, blocks.size(), options, impl_->options_.content.tokens_per_block));
  return impl_->send(blocks, options, [&](auto sums, const auto& state) {
    return impl_->embedded_.transfer_with_insert(target, prompt, std::move(sums), options, state);
  });
}

Result<Transfer> Agent::transfer(const std::string& target, std::span<const BlockAddress> blocks,
                                 std::span<const BlockAddress> places,
                                 const TransferOptions& options) {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  MEMPOOL_RETURN_IF_ERROR(check_places(blocks.size(), places, options));
  return impl_->send(blocks, options, [&](auto sums, const auto& state) {
    return impl_->embedded_.transfer(target, places, std::move(sums), options, state);
  });
}

Result<Transfer> Agent::fetch(const std::string& source, const Prompt& prompt,
                              const TransferOptions& options) {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  auto state = std::make_shared<Transfer::State>(*impl_, impl_->visitors_, options,
                                                 std::span<const BlockAddress>());
  MEMPOOL_RETURN_IF_ERROR(impl_->embedded_.fetch(source, prompt, options, state));
  return Transfer(std::move(state));
}

Result<Arrival> Agent::receive(std::chrono::milliseconds timeout) {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  const Visit visit(*impl_->visitors_);  // the agent waits until nobody is in here any more
  if (!visit) return cancelled("the agent stops");
  MEMPOOL_ASSIGN_OR_RETURN(Arrival arrival, impl_->arrivals_.pop(timeout));
  impl_->embedded_.on_received();
  return arrival;
}

Result<int> Agent::arrival_descriptor() {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  return impl_->arrivals_.descriptor();
}

void Agent::add_peer(const std::string& name, const std::string& address) {
  if (!impl_->made_in_.here()) return;
  impl_->embedded_.add_peer(name, address);
}

void Agent::stop() {
  if (impl_->made_in_.here()) impl_->stop();
}

AgentStatus Agent::status() const {
  if (const Status here = impl_->made_in_.check(); !here.ok()) {
    return {.audit = here, .ready = here};
  }
  return impl_->status();
}

Status Agent::grow(uint32_t blocks) {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  return impl_->grow(blocks);
}

Status Agent::shrink(std::chrono::milliseconds timeout) {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  return impl_->shrink(timeout);
}

Status Agent::drain(std::chrono::milliseconds timeout) {
  MEMPOOL_RETURN_IF_ERROR(impl_->made_in_.check());
  return impl_->drain(timeout);
}

std::string Agent::metrics() const {
  if (!impl_->made_in_.here()) return {};
  return impl_->metrics_text();
}

}  // namespace mempool
