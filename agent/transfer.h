// SPDX-License-Identifier: Apache-2.0
// Owns the state that a Transfer handle shares with the agent's thread.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>

#include "mempool/agent.h"

namespace mempool {

/// Thread: safe.
struct Transfer::State {
  std::mutex mutex;
  std::condition_variable ended;
  bool done = false;
  Status status;
  TransferReport report;
  std::function<void(const Status&)> on_done;
  std::function<void()> cancel;             // cleared when the call ends
  std::vector<BlockAddress> source_blocks;  // to look at again when their bytes arrived wrong

  /// End the call, once, and wake whoever waits.
  void end(const Status& how, TransferReport what);
};

}  // namespace mempool
