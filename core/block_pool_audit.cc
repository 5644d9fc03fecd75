// SPDX-License-Identifier: Apache-2.0
// Owns the audit of a pool: every count again from the records, every invariant by name.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/block_pool.h"

namespace mempool {

/// Check one block against what holds it. `peer_pins` is the sum over the sessions but the
/// caller's.
Status BlockPool::audit_block(uint32_t index, uint32_t peer_pins) const {
  const Record& record = records_[index];
  const auto broken = [&](std::string_view invariant) {
    return internal_error(fmt::format("audit: {} block {} of the {} pool: {}",
                                      to_string(record.state), index, to_string(medium_),
                                      invariant));
  };
  const bool free = record.state == BlockState::kFree;
  const bool retired = record.state == BlockState::kRetired;
  const bool set_aside = quarantined_.contains(index);
  if (static_cast<size_t>(record.state) >= kBlockStates) return broken("no such state");
  if (record.pins != record.caller_pins + peer_pins) {
    return broken(
        fmt::format("{} pins, its sessions hold {}", record.pins, record.caller_pins + peer_pins));
  }
  const bool absent = record.state == BlockState::kAbsent;
  if (is_idle(record.state) && record.pins != 0) return broken("pinned");
  if (is_idle(record.state) && !retired && record.state != record.idle) {
    return broken(fmt::format("its segment's idle blocks are {}", to_string(record.idle)));
  }
  if (free != free_.is_free(index)) return broken("the free map says otherwise");
  if (!absent && retired != (low_generation(index) == 0)) {
    return broken("generation and retirement disagree");
  }
  if (record.listed != 0) return broken("still listed after a call");
  if (set_aside && record.state != BlockState::kQuarantined) return broken("has a writer to await");
  const bool held_by_pins = record.state == BlockState::kReserved ||
                            record.state == BlockState::kWriting ||
                            record.state == BlockState::kPrivate ||
                            (record.state == BlockState::kQuarantined && !set_aside);
  if (held_by_pins && record.pins == 0) return broken("nobody holds it, and it is not free");
  return Status();
}

Status BlockPool::audit_counts(const PoolCounts& recounted) const {
  if (recounted.blocks != counts_.blocks || recounted.count(BlockState::kFree) != free_.count()) {
    return internal_error(fmt::format(
        "audit: {} pool: the running counts ({}; {} in the free map) are not those of the records "
        "({})",
        to_string(medium_), fmt::join(counts_.blocks, " "), free_.count(),
        fmt::join(recounted.blocks, " ")));
  }
  if (recounted.quarantine == counts_.quarantine) return Status();
  return internal_error(fmt::format(
      "audit: {} pool: the running counts of the quarantine ({}) are not those of the records ({})",
      to_string(medium_), counts_.quarantine, recounted.quarantine));
}

Result<PoolAudit> BlockPool::audit() const {
  std::vector<uint32_t> peer_pins(records_.size());
  for (uint32_t index = 0; index < records_.size(); ++index)
    peer_pins[index] = records_[index].holder_pins;
  for (const auto& [session, pins] : further_pins_) {
    for (const auto& [index, count] : pins) peer_pins[index] += count;
  }
  PoolAudit audit;
  uint64_t evictable = 0;
  for (uint32_t index = 0; index < records_.size(); ++index) {
    MEMPOOL_RETURN_IF_ERROR(audit_block(index, peer_pins[index]));
    const Record& record = records_[index];
    ++audit.blocks[static_cast<size_t>(record.state)];
    audit.total += record.state != BlockState::kAbsent;
    audit.pins += record.pins;
    evictable += record.pins == 0 && can_make_room(record);
    if (record.state != BlockState::kQuarantined) continue;
    const auto writer = quarantined_.find(index);
    ++audit.quarantine[writer == quarantined_.end() ? std::string(kAwaitingUnpin) : writer->second];
  }
  if (audit.total != total_) {
    return internal_error(fmt::format("audit: {} pool: {} blocks, the running count is {}",
                                      to_string(medium_), audit.total, total_));
  }
  if (evictable != evictable_) {
    return internal_error(
        fmt::format("audit: {} pool: {} evictable blocks, the running count is {}",
                    to_string(medium_), evictable, evictable_));
  }
  MEMPOOL_RETURN_IF_ERROR(audit_counts(audit));
  return audit;
}

}  // namespace mempool
