// SPDX-License-Identifier: Apache-2.0
// Owns waiting for, cancelling and reporting a transfer.
#include "agent/transfer.h"

#include <utility>

#include "core/check.h"

namespace mempool {

void Transfer::State::end(const Status& how, TransferReport what) {
  std::function<void(const Status&)> callback;
  {
    const std::lock_guard lock(mutex);
    if (std::exchange(done, true)) return;
    status = how;
    report = std::move(what);
    callback = std::exchange(on_done, nullptr);
    cancel = nullptr;
  }
  ended.notify_all();
  if (callback) callback(how);
}

Status Transfer::wait() const {
  std::unique_lock lock(state_->mutex);
  state_->ended.wait(lock, [this] { return state_->done; });
  return state_->status;
}

bool Transfer::done() const {
  const std::lock_guard lock(state_->mutex);
  return state_->done;
}

void Transfer::cancel() {
  // Under the lock: the agent clears `cancel` before it goes, so that it is still there meanwhile.
  const std::lock_guard lock(state_->mutex);
  if (state_->cancel) state_->cancel();
}

TransferReport Transfer::report() const {
  const std::lock_guard lock(state_->mutex);
  MEMPOOL_CHECK(state_->done);  // a report of a running transfer would change under its reader
  return state_->report;
}

}  // namespace mempool
