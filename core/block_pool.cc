// SPDX-License-Identifier: Apache-2.0
// Owns the making of a pool and every step in the life of its blocks.
#include "core/block_pool.h"

#include <fmt/format.h>

#include <new>
#include <numeric>
#include <utility>

#include "core/memory_room.h"

namespace mempool {
namespace {

/// Say which block a refusal is about.
Status refuse(const BlockAddress& address, std::string_view reason) {
  return invalid_argument(fmt::format("block {}: {}", to_string(address), reason));
}

}  // namespace

std::string_view to_string(BlockState state) {
  switch (state) {
    case BlockState::kFree:
      return "free";
    case BlockState::kReserved:
      return "reserved";
    case BlockState::kWriting:
      return "writing";
    case BlockState::kPrivate:
      return "private";
    case BlockState::kPublished:
      return "published";
    case BlockState::kQuarantined:
      return "quarantined";
    case BlockState::kRetired:
      return "retired";
    case BlockState::kUnclaimed:
      return "unclaimed";
    case BlockState::kAbsent:
      return "absent";
  }
  return "unknown";
}

std::vector<BlockView> BlockPool::views(uint32_t index) const {
  std::vector<BlockView> result;
  for (uint32_t shard = 0; shard < shards(); ++shard) result.push_back(view(index, shard));
  return result;
}

Status BlockPool::explain_dead(const BlockAddress& address) const {
  if (address.incarnation != incarnation_) {
    return stale(fmt::format("block {}: not of this life of the instance ({:016x}); match again",
                             to_string(address), incarnation_));
  }
  if (address.medium() != medium_) {
    return refuse(address, fmt::format("asked of the {} pool", to_string(medium_)));
  }
  if (address.index() >= records_.size()) {
    return refuse(address, fmt::format("the pool has {} blocks", records_.size()));
  }
  return stale(fmt::format("block {}: freed since, its generation is {} now; match again",
                           to_string(address), low_generation(address.index())));
}

uint32_t BlockPool::further_pins_of(SessionId session, uint32_t index) const {
  const auto pins = further_pins_.find(session);
  if (pins == further_pins_.end()) return 0;
  const auto pin = pins->second.find(index);
  return pin == pins->second.end() ? 0 : pin->second;
}

Status BlockPool::alloc(SessionId session, size_t count, BlockState state,
                        std::vector<BlockAddress>& out, std::optional<uint32_t> after) {
  MEMPOOL_CHECK(state == BlockState::kWriting || state == BlockState::kReserved);
  if (count > free_.count()) {
    return resource_exhausted(fmt::format(
        "{} pool: {} blocks are asked for, {} of {} are free: ask for fewer, or let some go",
        to_string(medium_), count, free_.count(), blocks()));
  }
  const size_t first = out.size();
  out.resize(first + count);
  free_.take(static_cast<uint32_t>(count), after, batch_);
  for (size_t i = 0; i < count; ++i) {
    records_[batch_[i]].state = state;
    add_pin(session, batch_[i]);
    out[first + i] = address(batch_[i]);
  }
  batch_.clear();
  counts_.blocks[static_cast<size_t>(BlockState::kFree)] -= count;
  counts_.blocks[static_cast<size_t>(state)] += count;
  return Status();
}

Status BlockPool::check_free(SessionId session, const BlockAddress& address) const {
  if (!is_live(address)) return explain_dead(address);
  const Record& record = records_[address.index()];
  if (record.listed != 0) return refuse(address, "named twice in one list; name it once");
  if (record.state == BlockState::kPublished) {
    return refuse(address, "the index holds it; erase its prompt, or unpin it");
  }
  if (record.state == BlockState::kQuarantined) {
    return refuse(address, "quarantined; it is freed when its writer is gone");
  }
  if (record.pins != 1 || pins_of(session, address.index()) != 1) {
    return refuse(
        address,
        fmt::format("{} pins hold it, and free needs the caller's alone; unpin it", record.pins));
  }
  return Status();
}

Status BlockPool::free(SessionId session, std::span<const BlockAddress> addresses) {
  for (size_t i = 0; i < addresses.size(); ++i) {
    if (Status status = check_free(session, addresses[i]); !status.ok()) {
      unlist(addresses.first(i));
      return status;
    }
    records_[addresses[i].index()].listed = 1;
  }
  for (const BlockAddress& address : addresses) {
    drop_pin(session, address.index());
    batch_.push_back(address.index());
  }
  unlist(addresses);
  free_collected();
  return Status();
}

Status BlockPool::pin(SessionId session, std::span<const BlockAddress> addresses) {
  for (const BlockAddress& address : addresses) {
    MEMPOOL_RETURN_IF_ERROR(check(address));
    const BlockState state = records_[address.index()].state;
    if (state == BlockState::kReserved || state == BlockState::kQuarantined) {
      return refuse(address, fmt::format("{}; only written or sealed blocks can be pinned",
                                         to_string(state)));
    }
  }
  for (const BlockAddress& address : addresses) add_pin(session, address.index());
  return Status();
}

Status BlockPool::check_unpin(SessionId session, const BlockAddress& address) const {
  if (!is_live(address)) return explain_dead(address);
  const uint32_t held = pins_of(session, address.index());
  if (records_[address.index()].listed < held) return Status();
  return refuse(address,
                fmt::format("session {} holds {} pins and gives back more", session, held));
}

Status BlockPool::unpin(SessionId session, std::span<const BlockAddress> addresses) {
  for (size_t i = 0; i < addresses.size(); ++i) {
    if (Status status = check_unpin(session, addresses[i]); !status.ok()) {
      unlist(addresses.first(i));
      return status;
    }
    ++records_[addresses[i].index()].listed;
  }
  unlist(addresses);
  for (const BlockAddress& address : addresses) {
    drop_pin(session, address.index());
    collect_if_unheld(address.index());
  }
  free_collected();
  return Status();
}

Status BlockPool::check_lend(const BlockAddress& address) const {
  if (!is_live(address)) return explain_dead(address);
  const Record& record = records_[address.index()];
  if (record.listed != 0) return refuse(address, "named twice in one list; name it once");
  if (record.state != BlockState::kWriting) {
    return refuse(address, fmt::format("{}; a peer can fill only what is held for it or what an "
                                       "engine is filling",
                                       to_string(record.state)));
  }
  const bool one_engine = record.pins == record.caller_pins ||
                          (record.pins == record.holder_pins && is_engine(record.holder));
  return one_engine ? Status() : refuse(address, "others pin it; lend what one engine alone holds");
}

Status BlockPool::lend(SessionId session, std::span<const BlockAddress> addresses) {
  for (size_t i = 0; i < addresses.size(); ++i) {
    if (Status status = check_lend(addresses[i]); !status.ok()) {
      unlist(addresses.first(i));
      return status;
    }
    records_[addresses[i].index()].listed = 1;
  }
  unlist(addresses);
  for (const BlockAddress& address : addresses) {
    enter(address.index(), BlockState::kReserved);
    add_pin(session, address.index());
  }
  return Status();
}

void BlockPool::seal(uint32_t index, std::optional<uint64_t> checksum) {
  const BlockState state = records_[index].state;
  MEMPOOL_CHECK(state == BlockState::kReserved || state == BlockState::kWriting ||
                state == BlockState::kPrivate);
  enter(index, BlockState::kPrivate);
  records_[index].has_checksum = checksum.has_value();
  checksums_[index] = checksum.value_or(0);
}

void BlockPool::publish(uint32_t index) {
  MEMPOOL_CHECK(records_[index].state == BlockState::kPrivate);
  enter(index, BlockState::kPublished);
}

void BlockPool::unpublish(uint32_t index) {
  MEMPOOL_CHECK(records_[index].state == BlockState::kPublished);
  enter(index, BlockState::kPrivate);
  collect_if_unheld(index);
  free_collected();
}

void BlockPool::quarantine(SessionId session, uint32_t index, const std::string& writer) {
  const BlockState state = records_[index].state;
  MEMPOOL_CHECK(state == BlockState::kReserved || state == BlockState::kPrivate);
  MEMPOOL_CHECK(pins_of(session, index) > 0);
  quarantined_.emplace(index, writer);
  hold_back(writer);
  enter(index, BlockState::kQuarantined);
  drop_pin(session, index);
}

void BlockPool::release(uint32_t index) {
  const auto writer = quarantined_.find(index);
  MEMPOOL_CHECK(writer != quarantined_.end());
  let_through(writer->second);
  hold_back(kAwaitingUnpin);
  records_[index].corrupt = false;
  quarantined_.erase(writer);
  collect_if_unheld(index);
  free_collected();
}

void BlockPool::set_aside(SessionId session, uint32_t index) {
  quarantine(session, index, std::string(kCorruption));
  records_[index].corrupt = true;
}

void BlockPool::end_session(SessionId session) {
  for (uint32_t index = 0; index < records_.size(); ++index) {
    for (uint32_t held = pins_of(session, index); held > 0; --held) {
      drop_pin(session, index);
      if (held == 1) collect_if_unheld(index);
    }
  }
  free_collected();
}

std::optional<uint64_t> BlockPool::checksum(uint32_t index) const {
  if (!records_[index].has_checksum) return std::nullopt;
  return checksums_[index];
}

void BlockPool::drop_further_pin(SessionId session, uint32_t index) {
  const auto pins = further_pins_.find(session);
  const auto pin = pins->second.find(index);
  if (--pin->second == 0) pins->second.erase(pin);
  if (pins->second.empty()) further_pins_.erase(pins);
}

void BlockPool::enter(uint32_t index, BlockState state) {
  --counts_.blocks[static_cast<size_t>(records_[index].state)];
  ++counts_.blocks[static_cast<size_t>(state)];
  if (records_[index].state == BlockState::kQuarantined) let_through(kAwaitingUnpin);
  const bool unpinned = records_[index].pins == 0;
  evictable_ -= unpinned && can_make_room(records_[index]);
  total_ -= state == BlockState::kAbsent;
  total_ += records_[index].state == BlockState::kAbsent;
  records_[index].state = state;
  evictable_ += unpinned && can_make_room(records_[index]);
}

void BlockPool::hold_back(std::string_view who) {
  ++counts_.quarantine[std::string(who)];
}

void BlockPool::let_through(std::string_view who) {
  const auto held = counts_.quarantine.find(std::string(who));
  if (--held->second == 0) counts_.quarantine.erase(held);
}

void BlockPool::unlist(std::span<const BlockAddress> addresses) {
  for (const BlockAddress& address : addresses) records_[address.index()].listed = 0;
}

/// Put a block on its way to free when neither a pin, the index nor a possible writer holds it.
void BlockPool::collect_if_unheld(uint32_t index) {
  const Record& record = records_[index];
  if (record.pins != 0 || record.state == BlockState::kPublished) return;
  if (record.state == BlockState::kQuarantined && quarantined_.contains(index)) return;
  batch_.push_back(index);
}

/// Free the collected blocks. Readers copy first and look at the generation again after, so that
/// all generations must be seen to rise before the first byte of any block can change hands.
void BlockPool::free_collected() {
  if (batch_.empty()) return;
  for (const uint32_t index : batch_) {
    const uint64_t next = generations_[index].load(std::memory_order_relaxed) + 1;
    generations_[index].store(next, std::memory_order_relaxed);
    const BlockState idle = records_[index].idle;
    const bool used_up = low_generation(index) == 0 && idle != BlockState::kAbsent;
    enter(index, used_up ? BlockState::kRetired : idle);
    records_[index].has_checksum = false;
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
  for (const uint32_t index : batch_) {
    if (records_[index].state == BlockState::kFree) free_.give(index);
  }
  batch_.clear();
}

}  // namespace mempool
