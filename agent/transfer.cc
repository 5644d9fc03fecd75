// SPDX-License-Identifier: Apache-2.0
// Owns waiting for, feeding, cancelling and reporting a transfer.
#include "agent/transfer.h"

#include <algorithm>
#include <utility>

#include "core/check.h"

namespace mempool {
namespace {

Status agent_gone() {
  return unavailable("the agent has stopped");
}

}  // namespace

Transfer::State::State(TransferOwner& owner, std::shared_ptr<Gate> gate,
                       const TransferOptions& options, std::span<const BlockAddress> blocks)
    : owner(owner),
      gate(std::move(gate)),
      by_layer(options.mode == TransferMode::kByLayer),
      fenced(!by_layer && !options.ready.reached()),
      source_blocks(blocks.begin(), blocks.end()),
      on_done(options.on_done) {}

void Transfer::State::end(const Status& how, TransferReport what) {
  std::function<void(const Status&)> callback;
  {
    const std::lock_guard lock(mutex);
    if (std::exchange(done, true)) return;
    status = how;
    report = std::move(what);
    callback = std::exchange(on_done, nullptr);
    if (event.valid()) raise_event(event);
  }
  ended.notify_all();
  if (callback) callback(how);
}

Status Transfer::State::send_layers(LayerRange layers, const Fence& ready) {
  const Visit visit(*gate);
  if (!visit) return agent_gone();
  {
    const std::lock_guard lock(mutex);
    if (committed) return invalid_argument("layers cannot follow the commit");
    MEMPOOL_RETURN_IF_ERROR(owner.hand_over(id, layers));
    ++fences;
  }
  ready.then([self = shared_from_this(), layers] { self->on_fence(layers); });
  return {};
}

void Transfer::State::on_fence(LayerRange layers) {
  if (!made_in.here()) return;  // a fence of the parent's, signalled in a fork
  const Visit visit(*gate);
  if (!visit) return;
  owner.layers_ready(id, layers);
  {
    const std::lock_guard lock(mutex);
    if (--fences > 0 || !committed) return;
  }
  owner.commit(*this);
}

Status Transfer::State::commit() {
  const Visit visit(*gate);
  if (!visit) return agent_gone();
  {
    const std::lock_guard lock(mutex);
    if (committed) return invalid_argument("the transfer was committed before");
    MEMPOOL_RETURN_IF_ERROR(owner.check_commit(id));
    committed = true;
    if (fences > 0) return {};  // the last fence commits
  }
  owner.commit(*this);
  return {};
}

void Transfer::State::send_when(const Fence& ready, LayerRange all) {
  if (!fenced) return;
  // Where the call has ended by now, wait() tells how.
  (void)send_layers(all, ready);
  (void)commit();
}

Result<int> Transfer::State::descriptor() {
  const std::lock_guard lock(mutex);
  if (!event.valid()) {
    MEMPOOL_ASSIGN_OR_RETURN(event, make_event());
    if (done) raise_event(event);
  }
  return event.number();
}

std::vector<SealedSum> Transfer::State::with_stored(std::vector<SealedSum> fresh) const {
  std::erase_if(fresh, [this](const SealedSum& sum) { return published[sum.position]; });
  fresh.insert(fresh.end(), stored.begin(), stored.end());
  std::ranges::sort(fresh, {}, &SealedSum::position);
  return fresh;
}

Result<std::vector<BlockAddress>> held_at_peer(const Transfer& call) {
  MEMPOOL_RETURN_IF_ERROR(call.wait());
  return call.report().serving;
}

Status Transfer::wait() const {
  MEMPOOL_RETURN_IF_ERROR(state_->made_in.check());
  std::unique_lock lock(state_->mutex);
  state_->ended.wait(lock, [this] { return state_->done; });
  return state_->status;
}

bool Transfer::done() const {
  if (!state_->made_in.here()) return true;  // wait() tells
  const std::lock_guard lock(state_->mutex);
  return state_->done;
}

Result<int> Transfer::event_descriptor() const {
  MEMPOOL_RETURN_IF_ERROR(state_->made_in.check());
  return state_->descriptor();
}

void Transfer::cancel() {
  if (!state_->made_in.here()) return;
  if (const Visit visit(*state_->gate); visit) state_->owner.cancel(state_->id);
}

Status Transfer::send_layers(uint32_t first, uint32_t count, const Fence& ready) {
  MEMPOOL_RETURN_IF_ERROR(state_->made_in.check());
  if (!state_->by_layer) {
    return invalid_argument("send_layers() is for transfers with mode = by_layer");
  }
  return state_->send_layers({first, count}, ready);
}

Status Transfer::commit() {
  MEMPOOL_RETURN_IF_ERROR(state_->made_in.check());
  if (!state_->by_layer) {
    return invalid_argument("commit() is for transfers with mode = by_layer");
  }
  return state_->commit();
}

TransferReport Transfer::report() const {
  if (!state_->made_in.here()) return {};
  const std::lock_guard lock(state_->mutex);
  MEMPOOL_CHECK(state_->done);  // a report of a running transfer would change under its reader
  return state_->report;
}

}  // namespace mempool
