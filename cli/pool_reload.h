// SPDX-License-Identifier: Apache-2.0
// Owns what a running agent takes up of changed settings: the size of its pool.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "core/config.h"
#include "mempool/agent.h"
#include "mempool/status.h"

namespace mempool {

/// Have an agent's pool grow by what the settings give it more, as one segment, or shrink by its
/// last segments as long as it keeps at least what they give it; each has `timeout` to get free.
/// Errors: those of agent_options(), Agent::grow() and Agent::shrink().
Status reload_pool(Agent& agent, const Config& config, std::chrono::milliseconds timeout);

/// Has settings read and taken up by a thread of its own: a shrink takes its time, and whoever
/// hears signals must not wait for it. Its end waits for what is under way, which Agent::drain()
/// cuts short. Thread: safe.
class PoolReloader {
 public:
  using Load = std::function<Result<Config>()>;

  /// Requires: `agent` outlives it.
  PoolReloader(Agent& agent, Load load, std::chrono::milliseconds timeout);
  ~PoolReloader();
  /// Read the settings, once more where they are being read already.
  void again();

 private:
  void run();

  Agent& agent_;
  const Load load_;
  const std::chrono::milliseconds timeout_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool asked_ = false;  // under mutex_, as what follows
  bool over_ = false;
  std::thread thread_;
};

}  // namespace mempool
