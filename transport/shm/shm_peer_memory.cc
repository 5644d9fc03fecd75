// SPDX-License-Identifier: Apache-2.0
// Owns the checks of what a peer gives to map.
#include "transport/shm/shm_peer_memory.h"

#include <fmt/format.h>

#include "core/check.h"
#include "transport/region_table.h"
#include "transport/shm/shm_options.h"

namespace mempool {

const std::byte* ShmPeerRegion::resolve(uint64_t offset, uint64_t bytes) const {
  return lies_inside(facts.bytes, offset, bytes) ? mapping->data() + offset : nullptr;
}

const ShmWord* ShmPeerMemory::word_of(const std::shared_ptr<ShmMapping>& words, uint32_t index) {
  if (!words || index >= words->bytes() / sizeof(ShmWord)) return nullptr;
  return reinterpret_cast<const ShmWord*>(words->data()) + index;
}

Status ShmPeerMemory::check_region(const ShmMemory& facts) const {
  if (facts.table == 0) return {};
  const auto table = mappings_.find(facts.table);
  if (table == mappings_.end()) {
    return invalid_argument(
        fmt::format("malformed frame: region {} names generations {}, which "
                    "were not given",
                    facts.region, facts.table));
  }
  const uint64_t words = table->second->bytes() / sizeof(ShmWord);
  const bool inside = facts.blocks > 0 && lies_inside(words, facts.first_block, facts.blocks);
  if (inside && facts.block_stride > 0 && facts.block_stride <= facts.bytes) return {};
  return invalid_argument(fmt::format(
      "malformed frame: region {} of {} bytes has {} blocks of {} from {} on, of {}", facts.region,
      facts.bytes, facts.blocks, facts.block_stride, facts.first_block, words));
}

Result<std::shared_ptr<ShmMapping>> ShmPeerMemory::add(uint64_t number, const ShmMemory& facts,
                                                       const Descriptor& descriptor) {
  if (const auto known = mappings_.find(number); known != mappings_.end()) return known->second;
  if (mappings_.size() >= kShmMappingsMax) {
    return resource_exhausted(
        fmt::format("a peer gives more than {} pieces of memory", kShmMappingsMax));
  }
  if (facts.kind == ShmMemoryKind::kRegion) MEMPOOL_RETURN_IF_ERROR(check_region(facts));
  MEMPOOL_ASSIGN_OR_RETURN(ShmMapping mapped, ShmMapping::map(descriptor, facts.bytes));
  auto mapping = std::make_shared<ShmMapping>(std::move(mapped));
  mappings_.emplace(number, mapping);
  switch (facts.kind) {
    case ShmMemoryKind::kWords:
      replace(source_words_, mapping);
      break;
    case ShmMemoryKind::kOpenSlots:
      replace(open_slots_, mapping);
      break;
    case ShmMemoryKind::kGenerations:
      break;
    case ShmMemoryKind::kRegion: {
      // A connection that lags may still bring what another one has seen replaced.
      ShmPeerRegion& region = regions_[facts.region];
      if (region.number > number) break;
      region = {mapping, facts.table == 0 ? nullptr : mappings_.at(facts.table), facts, number};
      break;
    }
  }
  return mapping;
}

// Each connection brings the same table anew, under a number of its own; the last one is kept.
void ShmPeerMemory::replace(std::shared_ptr<ShmMapping>& table,
                            const std::shared_ptr<ShmMapping>& by) {
  std::erase_if(mappings_, [&](const auto& one) { return one.second == table; });
  table = by;
}

void ShmPeerMemory::remove(uint64_t number) {
  const auto gone = mappings_.find(number);
  if (gone == mappings_.end()) return;
  // Under the id of a region another one may have come since, on another connection.
  std::erase_if(regions_, [&](const auto& one) { return one.second.mapping == gone->second; });
  mappings_.erase(gone);
}

const ShmPeerRegion* ShmPeerMemory::find(uint32_t region) const {
  const auto found = regions_.find(region);
  return found == regions_.end() ? nullptr : &found->second;
}

}  // namespace mempool
