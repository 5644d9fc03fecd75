// SPDX-License-Identifier: Apache-2.0
// Owns the coming and going of segments while an agent runs.
#include <algorithm>
#include <future>
#include <utility>

#include <fmt/format.h>

#include "agent/agent_impl.h"
#include "agent/told_segments.h"
#include "core/check.h"
#include "core/log.h"

namespace mempool {
namespace {

/// Say how the blocks of a segment are still in use.
std::string uses_of(const BlockPool& pool, const PoolSegment& segment) {
  std::map<BlockState, uint32_t> uses;
  for (uint32_t index = segment.first_block; index < segment.first_block + segment.blocks;
       ++index) {
    if (pool.state(index) != BlockState::kAbsent) ++uses[pool.state(index)];
  }
  std::string text;
  for (const auto& [state, count] : uses) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, to_string(state));
  }
  return text;
}

/// Let go of what nobody but the agent holds in a segment: published blocks, time and again, since
/// a transfer that was open when it was closed may publish some; and those aside for their bytes.
void let_go_of(BlockPool& pool, LocalIndex& index, const PoolSegment& segment) {
  std::vector<uint32_t> published;
  for (uint32_t i = segment.first_block; i < segment.first_block + segment.blocks; ++i) {
    if (pool.state(i) == BlockState::kPublished) published.push_back(i);
    if (pool.is_corrupt(i)) pool.release(i);
  }
  if (!published.empty()) index.erase_blocks(published);
}

std::vector<const PoolSegment*> shards_of(const BlockPool& pool, uint32_t first_block) {
  std::vector<const PoolSegment*> result;
  for (const PoolSegment* segment : pool.segments().all()) {
    if (segment->first_block == first_block) result.push_back(segment);
  }
  return result;
}

}  // namespace

// ---- by the operator -------------------------------------------------------------------------

Status Agent::Impl::grow(uint32_t blocks) {
  const Visit visit(*visitors_);
  if (!visit) return cancelled("the agent stops");
  MEMPOOL_RETURN_IF_ERROR(pool_->segments().find_place(blocks, pool_->max_blocks()).status());
  MEMPOOL_ASSIGN_OR_RETURN(NewSegment segment, pool_->make_segment(blocks));  // takes long
  std::promise<Status> placed;
  loop_.post([&] {
    placed.set_value(draining() ? unavailable("the agent drains")
                                : place(std::move(segment)).status());
  });
  MEMPOOL_RETURN_IF_ERROR(placed.get_future().get());
  log().info("the pool has {} blocks more", blocks);
  return {};
}

Status Agent::Impl::shrink(std::chrono::milliseconds timeout) {
  const Visit visit(*visitors_);
  if (!visit) return cancelled("the agent stops");
  const TimePoint deadline = now() + std::min(timeout, kWaitMax);
  std::promise<Status> dropped;
  loop_.post([&] {
    if (stopping()) return dropped.set_value(cancelled("the agent stops"));
    if (draining()) return dropped.set_value(unavailable("the agent drains"));
    const PoolSegment* last = nullptr;
    size_t own = 0;
    for (const PoolSegment* segment : pool_->segments().of_first_shard()) {
      if (segment->adopted || closing_.contains(segment->first_block)) continue;
      last = segment;
      ++own;
    }
    if (own < 2) {
      return dropped.set_value(
          invalid_argument("the pool has one segment, and keeps it; a pool that is to shrink is "
                           "made of several (pool.segments)"));
    }
    if (const Status floors = check_floors(last->blocks); !floors.ok()) {
      return dropped.set_value(floors);
    }
    close_segment(
        last->first_block,
        {deadline, [&dropped](const Status& status) { dropped.set_value(status); }, [] {}, true});
    pump();
  });
  return dropped.get_future().get();
}

Status Agent::Impl::check_floors(uint32_t less) const {
  const std::lock_guard lock(mutex_);
  uint64_t floors = 0;
  for (const TenantShare& share : index_->tenants().listed()) floors += share.rule.floor;
  const uint32_t left = pool_->common_blocks() - less;
  if (floors <= left) return {};
  return invalid_argument(fmt::format(
      "the floors of the tenants come to {} blocks, and the pool would have {}", floors, left));
}

// ---- on the agent's thread -------------------------------------------------------------------

Result<uint32_t> Agent::Impl::place(NewSegment segment) {
  if (pool_->segments().all().size() + segment.memory.size() > kSegmentsMax) {
    return resource_exhausted(
        fmt::format("a pool has at most {} segments in all shards", kSegmentsMax));
  }
  uint32_t first_block = 0;
  {
    const std::lock_guard lock(mutex_);
    MEMPOOL_ASSIGN_OR_RETURN(first_block, pool_->add_segment(std::move(segment)));
  }
  Status status;
  for (const auto& transport : transports_) {
    for (const PoolSegment* shard : shards_of(*pool_, first_block)) {
      if (!status.ok()) break;
      status = transport->register_region(region_of(*pool_, *shard))
                   .with_context(transport->capabilities().name);
    }
  }
  if (!status.ok()) {  // nobody has heard of it yet
    const bool forgotten = forget_regions(first_block);
    MEMPOOL_CHECK(forgotten);
    const std::lock_guard lock(mutex_);
    pool_->drop_segment(first_block);
    return status;
  }
  tell_segments();
  const std::lock_guard lock(mutex_);
  pool_->open_segment(first_block);
  return first_block;
}

void Agent::Impl::tell_segments() {
  mover_->set_own_segments(plan_segments(*pool_));
  const Welcome welcome = make_welcome();
  std::vector<SessionId> sources;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, session] : sessions_) {
      if (!session.dialed && session.up) sources.push_back(id);
    }
  }
  for (const SessionId source : sources) control_->send(source, welcome);
}

void Agent::Impl::close_segment(uint32_t first_block, Closing closing) {
  {
    const std::lock_guard lock(mutex_);
    pool_->close_segment(first_block);
  }
  closing_[first_block] = std::move(closing);
  next_look_ = TimePoint::min();
}

void Agent::Impl::drop_closed(TimePoint now) {
  if (closing_.empty() || now < next_look_) return;
  next_look_ = now + kClosingTick;
  for (auto it = closing_.begin(); it != closing_.end();) {
    Closing& closing = it->second;
    const bool late = now >= closing.deadline;
    const Status emptied = empty_closed(it->first, late);
    const bool dropped = emptied.ok() && forget_regions(it->first);
    if (!dropped && !late) {
      ++it;
      continue;
    }
    const auto done = std::exchange(closing.done, [](const Status&) {});
    if (dropped) {
      {
        const std::lock_guard lock(mutex_);
        pool_->drop_segment(it->first);
      }
      tell_segments();
      closing.on_dropped();
    }
    if (dropped || !emptied.ok()) {
      it = closing_.erase(it);
      done(emptied);
    } else {  // no block is left of it, so it cannot be opened again: it goes when it can
      closing.deadline = TimePoint::max();
      closing.answered = true;
      ++it;
      done(deadline_exceeded("a transport still uses the memory"));
    }
  }
}

// Errors: kDeadlineExceeded while blocks are in use; with it, where it is late, the segment is open
// again.
Status Agent::Impl::empty_closed(uint32_t first_block, bool late) {
  const std::lock_guard lock(mutex_);
  const PoolSegment& segment = *shards_of(*pool_, first_block).front();
  let_go_of(*pool_, *index_, segment);
  if (pool_->present(first_block) == 0) return {};
  if (!late) return deadline_exceeded("blocks are still in use");
  const std::string uses = uses_of(*pool_, segment);
  pool_->open_segment(first_block);
  return deadline_exceeded(fmt::format("blocks are still in use ({})", uses));
}

// Take a segment's memory from all transports. False while one of them uses it still.
bool Agent::Impl::forget_regions(uint32_t first_block) {
  bool forgotten = true;
  for (const auto& transport : transports_) {
    for (const PoolSegment* shard : shards_of(*pool_, first_block)) {
      const Status status = transport->deregister_region(shard->region);
      forgotten &= status.ok() || status.code() == StatusCode::kNotFound;
    }
  }
  return forgotten;
}

void Agent::Impl::give_up_shrinking() {
  for (auto& [first_block, closing] : closing_) {
    if (closing.shrinks) closing.deadline = TimePoint::min();
  }
  next_look_ = TimePoint::min();
  pump();
}

bool Agent::Impl::draining() const {
  const std::lock_guard lock(mutex_);
  return target_->refusing();
}

bool Agent::Impl::stopping() {
  const std::lock_guard lock(idle_mutex_);
  return stopped_;
}

void Agent::Impl::give_up_closing() {
  for (auto& [first_block, closing] : closing_) {
    closing.deadline = TimePoint::max();
    closing.answered = true;
    std::exchange(closing.done, [](const Status&) {})(cancelled("the agent stops"));
  }
}

}  // namespace mempool
