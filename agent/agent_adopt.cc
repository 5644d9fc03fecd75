// SPDX-License-Identifier: Apache-2.0
// Owns what an agent does with memory that engines lend: taking it in shard by shard, giving out
// its blocks, letting go of it.
#include <algorithm>
#include <future>
#include <utility>

#include <fmt/format.h>

#include "agent/agent_impl.h"
#include "agent/call_checks.h"
#include "core/adopted_layout.h"
#include "core/log.h"
#include "core/memory_mapping.h"

namespace mempool {
namespace {

/// Check that a descriptor is what peers may map of an engine's memory.
Status check_behind(const AdoptedMemory& memory) {
  if (!is_sealed(memory.descriptor)) {
    return permission_denied(
        "the descriptor is no memory sealed against resizing (F_SEAL_SHRINK, F_SEAL_GROW)");
  }
  MEMPOOL_ASSIGN_OR_RETURN(Descriptor descriptor, duplicate(memory.descriptor));
  return MemoryMapping::map(descriptor, memory.bytes, Access::kRead).status();
}

}  // namespace

Status Agent::Impl::being_let_go(const std::string& name) const {
  return Status(StatusCode::kUnavailable,
                fmt::format("'{}' is being let go of; some of its blocks are still in use", name),
                static_cast<uint32_t>(options_.retry_hint.count()));
}

Status Agent::Impl::adopt(SessionId engine, const std::string& name, const AdoptOptions& options,
                          std::vector<Lent> lent) {
  MEMPOOL_RETURN_IF_ERROR(check_name(name));
  NewSegment complete;
  {
    const std::lock_guard lock(mutex_);
    std::vector<BlockLayout> layouts;
    for (const Lent& part : lent) {
      MEMPOOL_ASSIGN_OR_RETURN(layouts.emplace_back(), adopted_layout(pool_->layouts()[part.shard],
                                                                      part.shape, options.blocks));
    }
    const auto known = adoptions_.find(name);
    if (known != adoptions_.end() && known->second.first_block &&
        closing_.contains(*known->second.first_block)) {
      return being_let_go(name);
    }
    const size_t shards = pool_->shards();
    Adoption fresh{{options.blocks, true, options.insert_in_place, std::vector<BlockLayout>(shards),
                    std::vector<SegmentMemory>(shards)},
                   std::vector<SessionId>(shards),
                   std::vector<bool>(shards),
                   options.blocks,
                   options.insert_in_place,
                   std::nullopt};
    Adoption& adoption = known == adoptions_.end() ? fresh : known->second;
    if (adoption.blocks != options.blocks || adoption.in_place != options.insert_in_place) {
      return invalid_argument(
          fmt::format("'{}' has {} blocks, inserted {}, by another rank's word; all ranks adopt "
                      "the same",
                      name, adoption.blocks, adoption.in_place ? "in place" : "by copy"));
    }
    for (const Lent& part : lent) {
      if (!adoption.given[part.shard]) continue;
      return Status(StatusCode::kAlreadyExists,
                    fmt::format("'{}' is adopted of shard {} already; withdraw it first, or give "
                                "another name",
                                name, part.shard));
    }
    for (size_t i = 0; i < lent.size(); ++i) {
      const uint32_t shard = lent[i].shard;
      adoption.parts.layouts[shard] = layouts[i];
      adoption.parts.memory[shard] = std::move(lent[i].memory);
      adoption.lenders[shard] = engine;
      adoption.given[shard] = true;
    }
    const bool whole = std::ranges::find(adoption.given, false) == adoption.given.end();
    if (known == adoptions_.end()) adoptions_[name] = std::move(fresh);
    if (!whole) return {};
    complete = std::move(adoptions_.at(name).parts);
  }
  const Result<uint32_t> placed = place(std::move(complete));
  const std::lock_guard lock(mutex_);
  if (placed.ok()) {
    adoptions_.at(name).first_block = *placed;
    log().info("'{}' is adopted: {} blocks", name, options.blocks);
  } else {
    adoptions_.erase(name);
  }
  return placed.status();
}

Result<std::vector<BlockAddress>> Agent::Impl::claim(SessionId engine, const std::string& name,
                                                     std::span<const uint32_t> blocks) {
  const auto found = adoptions_.find(name);
  if (found == adoptions_.end()) {
    return not_found(fmt::format("nothing is adopted under the name '{}'", name));
  }
  const Adoption& adoption = found->second;
  if (!adoption.first_block) {
    return unavailable(
        fmt::format("'{}' is not adopted of all {} shards yet", name, pool_->shards()));
  }
  std::vector<uint32_t> indices(blocks.begin(), blocks.end());
  std::ranges::sort(indices);
  if (std::ranges::adjacent_find(indices) != indices.end()) {
    return invalid_argument(fmt::format("a list of blocks of '{}' names one twice", name));
  }
  indices.clear();
  std::vector<uint32_t> published;
  std::vector<uint32_t> corrupt;  // which their engine is about to write anew
  for (const uint32_t block : blocks) {
    if (block >= adoption.blocks) {
      return invalid_argument(
          fmt::format("block {} of '{}', which has {}", block, name, adoption.blocks));
    }
    const uint32_t index = indices.emplace_back(*adoption.first_block + block);
    const BlockState state = pool_->state(index);
    const bool unpinned = pool_->pins(index) == 0;
    if (unpinned && (state == BlockState::kPublished || pool_->is_corrupt(index))) {
      (state == BlockState::kPublished ? published : corrupt).push_back(index);
    } else if (state != BlockState::kUnclaimed) {
      return resource_exhausted(
          fmt::format("block {} of '{}' is {}, with {} pins; claim it when they are gone", block,
                      name, to_string(state), pool_->pins(index)),
          static_cast<uint32_t>(options_.retry_hint.count()));
    }
  }
  if (!published.empty()) index_->erase_blocks(published);
  for (const uint32_t index : corrupt) pool_->release(index);
  std::vector<BlockAddress> claimed;
  MEMPOOL_RETURN_IF_ERROR(pool_->claim(engine, indices, claimed));
  return claimed;
}

void Agent::Impl::withdraw(const std::string& name, TimePoint deadline,
                           std::function<void(Status)> done) {
  std::optional<uint32_t> first_block;
  {
    const std::lock_guard lock(mutex_);
    const auto found = adoptions_.find(name);
    if (found == adoptions_.end()) {
      return done(not_found(fmt::format("nothing is adopted under the name '{}'", name)));
    }
    first_block = found->second.first_block;
    if (!first_block) adoptions_.erase(found);
  }
  if (!first_block) return done({});
  if (const auto it = closing_.find(*first_block); it != closing_.end()) {
    Closing& closing = it->second;
    if (!closing.answered) return done(being_let_go(name));
    closing.deadline = deadline;  // a transport had it still; now somebody waits for that again
    closing.done = std::move(done);
    closing.answered = false;
    next_look_ = TimePoint::min();
    return;
  }
  close_segment(*first_block, {deadline, std::move(done), [this, name] {
                                 const std::lock_guard lock(mutex_);
                                 adoptions_.erase(name);
                               }});
}

// ---- of the engine in this process -------------------------------------------------------------

Status Agent::Impl::adopt_embedded(const std::string& name, const AdoptOptions& options) {
  const Visit visit(*visitors_);
  if (!visit) return cancelled("the agent stops");
  if (options.shards.size() != pool_->shards()) {
    return invalid_argument(fmt::format("memory of {} shards; the pool has {}",
                                        options.shards.size(), pool_->shards()));
  }
  const auto anonymous = std::ranges::count(options.shards, -1, &AdoptedMemory::descriptor);
  if (anonymous != 0 && static_cast<size_t>(anonymous) != options.shards.size()) {
    return invalid_argument("give a descriptor for each shard, or for none");
  }
  std::vector<Lent> lent;
  for (const AdoptedMemory& memory : options.shards) {
    SegmentMemory own;
    own.data = memory.data;
    own.bytes = memory.bytes;
    own.owner = memory.owner;
    if (memory.descriptor >= 0) {
      MEMPOOL_RETURN_IF_ERROR(check_behind(memory));
      MEMPOOL_ASSIGN_OR_RETURN(Descriptor kept, duplicate(memory.descriptor));
      using Both = std::pair<Descriptor, std::shared_ptr<const void>>;
      const auto both = std::make_shared<const Both>(std::move(kept), memory.owner);
      own.descriptor = both->first.number();
      own.owner = both;
    }
    lent.push_back({static_cast<uint32_t>(lent.size()), memory, std::move(own)});
  }
  std::promise<Status> adopted;
  loop_.post([&] { adopted.set_value(adopt(kCallerSession, name, options, std::move(lent))); });
  return adopted.get_future().get();
}

Status Agent::Impl::withdraw_embedded(const std::string& name, std::chrono::milliseconds timeout) {
  const Visit visit(*visitors_);
  if (!visit) return cancelled("the agent stops");
  const TimePoint deadline = now() + std::min(timeout, kWaitMax);
  std::promise<Status> withdrawn;
  loop_.post([&] {
    if (stopping()) return withdrawn.set_value(cancelled("the agent stops"));
    withdraw(name, deadline, [&withdrawn](const Status& status) { withdrawn.set_value(status); });
    pump();
  });
  return withdrawn.get_future().get();
}

void Agent::Impl::withdraw_all(SessionId engine) {
  std::vector<std::string> names;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, adoption] : adoptions_) {
      if (std::ranges::find(adoption.lenders, engine) == adoption.lenders.end()) continue;
      const auto closing =
          adoption.first_block ? closing_.find(*adoption.first_block) : closing_.end();
      if (closing == closing_.end()) {
        names.push_back(name);
      } else {
        closing->second.deadline = TimePoint::max();
      }
    }
  }
  for (const std::string& name : names) {
    withdraw(name, TimePoint::max(), [name](const Status& status) {
      if (status.ok()) log().info("'{}' is not adopted any more: its engine is gone", name);
    });
  }
}

}  // namespace mempool
