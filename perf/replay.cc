// SPDX-License-Identifier: Apache-2.0
// Owns the engine of the replay, and the clairvoyant cache.
#include "perf/replay.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <set>
#include <span>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "core/block_pool.h"
#include "core/check.h"
#include "core/clock.h"
#include "index/local_index.h"

namespace mempool {
namespace {

constexpr size_t kRequestsPerProgress = 256;

/// The index sees a block's id as its one token: equal ids are equal prefixes, and the tokens of a
/// block decide nothing else.
ContentSpec replay_shape() {
  ContentSpec shape;
  shape.model = "replay";
  shape.element = ElementType::kInt8;
  shape.layers = 1;
  shape.kv_heads = 1;
  shape.mla_rank = 64;  // bytes of a block
  shape.tokens_per_block = 1;
  return shape;
}

ReplayRow row_of(const RequestTrace& trace, std::string policy, uint32_t capacity,
                 uint64_t hit_blocks) {
  ReplayRow row;
  row.policy = std::move(policy);
  row.capacity = capacity;
  row.hit_tokens = hit_blocks * trace.block_tokens;
  row.hit_ratio = static_cast<double>(row.hit_tokens) / static_cast<double>(trace.tokens);
  return row;
}

/// One engine with its pool and index. Thread: confined.
class ReplayEngine {
 public:
  static Result<std::unique_ptr<ReplayEngine>> create(const ReplayPolicy& policy,
                                                      const ReplayOptions& options) {
    auto engine = std::unique_ptr<ReplayEngine>(new ReplayEngine);
    MEMPOOL_ASSIGN_OR_RETURN(engine->content_, make_content(replay_shape()));
    PoolOptions pool;
    pool.shape = replay_shape();
    pool.segment_blocks = {options.capacity};
    MEMPOOL_ASSIGN_OR_RETURN(engine->pool_, BlockPool::create(pool, /*incarnation=*/1));
    MEMPOOL_ASSIGN_OR_RETURN(
        auto eviction,
        make_eviction_policy(policy.eviction, {options.capacity, options.ttl, &engine->clock_}));
    MEMPOOL_ASSIGN_OR_RETURN(auto admission,
                             make_admission_policy(policy.admission, options.capacity));
    engine->index_ = std::make_unique<LocalIndex>(*engine->pool_, std::move(eviction), nullptr,
                                                  std::move(admission));
    return engine;
  }

  /// Gives how many blocks were matched.
  Result<size_t> serve(const TraceRequest& request) {
    clock_.set(TimePoint(std::chrono::milliseconds(request.time_ms)));
    held_.clear();
    const std::span<const TokenId> tokens = request.blocks;
    const size_t matched = index_->match(kCallerSession, {content_, tokens}, held_);
    const size_t room = pool_->free_blocks() + pool_->evictable_blocks();
    const size_t fresh = std::min(tokens.size() - matched, room);
    if (fresh > pool_->free_blocks()) index_->evict(fresh - pool_->free_blocks());
    MEMPOOL_RETURN_IF_ERROR(pool_->alloc(kCallerSession, fresh, BlockState::kWriting, held_));
    const Prompt kept{content_, tokens.first(held_.size())};
    MEMPOOL_RETURN_IF_ERROR(index_->insert(kCallerSession, kept, held_).status());
    MEMPOOL_RETURN_IF_ERROR(pool_->unpin(kCallerSession, held_));
    return matched;
  }

  uint64_t evicted() const { return index_->evicted(); }
  Status audit() const {
    MEMPOOL_RETURN_IF_ERROR(pool_->audit().status());
    return index_->audit();
  }

 private:
  ReplayEngine() = default;

  ManualClock clock_;
  Content content_;
  std::unique_ptr<BlockPool> pool_;
  std::unique_ptr<LocalIndex> index_;
  std::vector<BlockAddress> held_;  // of the request at hand
};

}  // namespace

Result<ReplayPolicy> parse_replay_policy(std::string_view name) {
  ReplayPolicy policy;
  policy.name = name;
  const size_t plus = name.find('+');
  policy.eviction = name.substr(0, plus);
  if (plus != std::string_view::npos) policy.admission = name.substr(plus + 1);
  MEMPOOL_RETURN_IF_ERROR(make_eviction_policy(policy.eviction).status());
  MEMPOOL_RETURN_IF_ERROR(make_admission_policy(policy.admission, 1).status());
  return policy;
}

Result<ReplayRow> replay_trace(const RequestTrace& trace, const ReplayPolicy& policy,
                               const ReplayOptions& options) {
  MEMPOOL_ASSIGN_OR_RETURN(const auto engine, ReplayEngine::create(policy, options));
  uint64_t hit_blocks = 0;
  for (size_t i = 0; i < trace.requests.size(); ++i) {
    if (options.progress && i % kRequestsPerProgress == 0) options.progress(i);
    MEMPOOL_ASSIGN_OR_RETURN(const size_t matched, engine->serve(trace.requests[i]));
    hit_blocks += matched;
  }
  MEMPOOL_RETURN_IF_ERROR(engine->audit());
  ReplayRow row = row_of(trace, policy.name, options.capacity, hit_blocks);
  row.evicted = engine->evicted();
  return row;
}

ReplayRow belady_bound(const RequestTrace& trace, uint32_t capacity) {
  constexpr size_t kNever = std::numeric_limits<size_t>::max();
  std::vector<size_t> next_use(trace.distinct_blocks, kNever);
  std::vector<std::vector<size_t>> next(trace.requests.size());  // of each request's blocks
  for (size_t i = trace.requests.size(); i-- > 0;) {
    for (const uint32_t block : trace.requests[i].blocks) {
      next[i].push_back(std::exchange(next_use[block], i));
    }
  }
  using Held = std::tuple<size_t, size_t, uint32_t>;  // next use, place in the prompt, block
  std::set<Held> order;
  std::vector<bool> held(trace.distinct_blocks);
  uint64_t hits = 0;
  for (size_t i = 0; i < trace.requests.size(); ++i) {
    const auto& blocks = trace.requests[i].blocks;
    for (const uint32_t block : blocks) hits += held[block];
    for (size_t place = 0; place < blocks.size(); ++place) {
      const uint32_t block = blocks[place];
      if (held[block]) order.erase({i, place, block});
      held[block] = next[i][place] != kNever;
      if (held[block]) order.insert({next[i][place], place, block});
      if (order.size() <= capacity) continue;
      const auto last = std::prev(order.end());
      held[std::get<uint32_t>(*last)] = false;
      order.erase(last);
    }
  }
  return row_of(trace, "belady", capacity, hits);
}

ReplayRow endless_bound(const RequestTrace& trace) {
  std::vector<bool> seen(trace.distinct_blocks);
  uint64_t hits = 0;
  for (const TraceRequest& request : trace.requests) {
    for (const uint32_t block : request.blocks) {
      hits += seen[block];
      seen[block] = true;
    }
  }
  return row_of(trace, "endless", trace.distinct_blocks, hits);
}

}  // namespace mempool
