// SPDX-License-Identifier: Apache-2.0
// Owns what waits for a fence.
#include "mempool/fence.h"

#include <mutex>
#include <utility>
#include <vector>

namespace mempool {

struct Fence::State {
  std::mutex mutex;
  bool reached = false;
  std::vector<std::function<void()>> waiting;
};

Fence Fence::pending() {
  Fence fence;
  fence.state_ = std::make_shared<State>();
  return fence;
}

void Fence::signal() const {
  if (state_ == nullptr) return;
  std::vector<std::function<void()>> waiting;
  {
    const std::lock_guard lock(state_->mutex);
    state_->reached = true;
    waiting.swap(state_->waiting);
  }
  for (const std::function<void()>& action : waiting) action();
}

bool Fence::reached() const {
  if (state_ == nullptr) return true;
  const std::lock_guard lock(state_->mutex);
  return state_->reached;
}

void Fence::then(std::function<void()> action) const {
  if (state_ != nullptr) {
    const std::lock_guard lock(state_->mutex);
    if (!state_->reached) {
      state_->waiting.push_back(std::move(action));
      return;
    }
  }
  action();
}

}  // namespace mempool
