// SPDX-License-Identifier: Apache-2.0
// Owns the replay of a trace against the real index and its policies, and the bounds beside it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "mempool/status.h"
#include "perf/request_trace.h"

namespace mempool {

/// "s3fifo" or, with an admission policy, "s3fifo+second_hit".
struct ReplayPolicy {
  std::string name;
  std::string eviction;
  std::string admission = "all";
};

/// Errors: kInvalidArgument, listing the names there are.
Result<ReplayPolicy> parse_replay_policy(std::string_view name);

struct ReplayRow {
  std::string policy;  // or "belady", "endless"
  uint32_t capacity = 0;
  uint64_t hit_tokens = 0;
  double hit_ratio = 0;  // of all tokens of the trace
  uint64_t evicted = 0;  // blocks; of policies
};

struct ReplayOptions {
  uint32_t capacity = 0;  // blocks
  std::chrono::milliseconds ttl{600000};
  std::function<void(size_t)> progress;  // told how many requests are done, now and then
};

/// Drive a LocalIndex over a pool of `capacity` blocks as an engine does: each request matches, has
/// room made, inserts, and lets go before the next one comes. Where the pool is smaller than a
/// prompt, its first blocks are kept. The audit is asked at the end.
/// Errors: those of the pool and the policies; kInternal from the audit.
Result<ReplayRow> replay_trace(const RequestTrace& trace, const ReplayPolicy& policy,
                               const ReplayOptions& options);

/// What no policy can exceed: a clairvoyant one that lets go of, or does not take, the block that
/// is asked for again the latest (Belady). A prefix is asked for whenever what continues it is, so
/// it takes leaves first by itself.
ReplayRow belady_bound(const RequestTrace& trace, uint32_t capacity);
/// A cache that never evicts.
ReplayRow endless_bound(const RequestTrace& trace);

}  // namespace mempool
