// SPDX-License-Identifier: Apache-2.0
// Owns the comparison of the pool that is with the one that is wanted.
#include "cli/pool_reload.h"

#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/agent_config.h"
#include "core/check.h"
#include "core/log.h"

namespace mempool {
namespace {

uint64_t sum(const std::vector<uint32_t>& blocks) {
  return std::accumulate(blocks.begin(), blocks.end(), uint64_t{0});
}

}  // namespace

Status reload_pool(Agent& agent, const Config& config, std::chrono::milliseconds timeout) {
  MEMPOOL_ASSIGN_OR_RETURN(const AgentOptions options, agent_options(config));
  const AgentStatus status = agent.status();
  MEMPOOL_ASSIGN_OR_RETURN(const auto shards,
                           make_shards(options.content, options.placement, options.shards));
  MEMPOOL_ASSIGN_OR_RETURN(const BlockLayout layout,
                           make_layout(options.content, shards.front(), 1));
  if (layout.block_bytes * shards.size() != status.block_bytes) {
    return invalid_argument(
        fmt::format("they give blocks of {} bytes, the pool has blocks of {}: restart the agent",
                    layout.block_bytes * shards.size(), status.block_bytes));
  }
  const uint64_t wanted = sum(options.segment_blocks);
  std::vector<uint32_t> segments = status.segments;
  if (wanted > sum(segments)) {
    return agent.grow(static_cast<uint32_t>(wanted - sum(segments)));
  }
  while (segments.size() > 1 && sum(segments) - segments.back() >= wanted) {
    MEMPOOL_RETURN_IF_ERROR(agent.shrink(timeout));
    log().info("the pool has {} blocks less", segments.back());
    segments.pop_back();
  }
  if (sum(segments) > wanted) {
    log().info("the pool keeps {} blocks: its last segment of {} would leave less than {}",
               sum(segments), segments.back(), wanted);
  }
  return {};
}

PoolReloader::PoolReloader(Agent& agent, Load load, std::chrono::milliseconds timeout)
    : agent_(agent), load_(std::move(load)), timeout_(timeout), thread_([this] { run(); }) {}

PoolReloader::~PoolReloader() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void PoolReloader::again() {
  {
    const std::lock_guard lock(mutex_);
    asked_ = true;
  }
  changed_.notify_one();
}

void PoolReloader::run() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return asked_ || over_; });
      if (over_) return;
      asked_ = false;
    }
    const Result<Config> config = load_();
    const Status taken = config.ok() ? reload_pool(agent_, *config, timeout_) : config.status();
    if (taken.ok()) {
      log().info("the settings were read again; the pool has the size that they give it");
    } else {
      log().warning("the settings were read again, and the pool is not as they say: {}",
                    taken.to_string());
    }
  }
}

}  // namespace mempool
