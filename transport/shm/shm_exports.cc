// SPDX-License-Identifier: Apache-2.0
// Owns the making of exports from regions.
#include "transport/shm/shm_exports.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "core/check.h"
#include "core/host_memory.h"

namespace mempool {

Result<ShmExport> ShmExports::make(ShmMemory memory, int descriptor) {
  MEMPOOL_ASSIGN_OR_RETURN(Descriptor opened, reopen_read_only(descriptor));
  return ShmExport{++last_number_, memory, std::move(opened)};
}

Result<size_t> ShmExports::add(const Region& region) {
  const size_t before = exports_.size();
  ShmMemory memory;
  memory.kind = ShmMemoryKind::kRegion;
  memory.region = region.id;
  memory.bytes = region.bytes;
  const RegionGenerations& generations = region.generations;
  std::optional<ShmExport> fresh_table;
  if (generations.descriptor >= 0) {
    const auto known = std::ranges::find(tables_, generations.descriptor, &Table::source);
    if (known != tables_.end()) {
      memory.table = known->number;
    } else {
      ShmMemory table;
      table.kind = ShmMemoryKind::kGenerations;
      MEMPOOL_ASSIGN_OR_RETURN(table.bytes, size_of(generations.descriptor));
      MEMPOOL_ASSIGN_OR_RETURN(ShmExport made, make(table, generations.descriptor));
      memory.table = made.number;
      fresh_table = std::move(made);
    }
    memory.first_block = generations.first_block;
    memory.blocks = generations.blocks;
    memory.block_stride = generations.block_stride;
  }
  Result<ShmExport> made = make(memory, region.descriptor);
  if (!made.ok()) return made.status().with_context(fmt::format("region {}", region.id));
  if (fresh_table) {
    tables_.push_back({generations.descriptor, fresh_table->number});
    exports_.push_back(std::move(*fresh_table));
  }
  exports_.push_back(std::move(made).value());
  return exports_.size() - before;
}

bool ShmExports::holds(uint32_t region) const {
  return std::ranges::any_of(exports_, [&](const ShmExport& one) {
    return one.memory.kind == ShmMemoryKind::kRegion && one.memory.region == region;
  });
}

std::vector<uint64_t> ShmExports::remove(uint32_t region) {
  std::vector<uint64_t> gone;
  const auto drop = [&](auto&& is_gone) {
    std::erase_if(exports_, [&](const ShmExport& one) {
      if (!is_gone(one)) return false;
      gone.push_back(one.number);
      return true;
    });
  };
  drop([&](const ShmExport& one) {
    return one.memory.kind == ShmMemoryKind::kRegion && one.memory.region == region;
  });
  std::erase_if(tables_, [&](const Table& table) {
    const bool used = std::ranges::any_of(
        exports_, [&](const ShmExport& one) { return one.memory.table == table.number; });
    if (!used) drop([&](const ShmExport& one) { return one.number == table.number; });
    return !used;
  });
  return gone;
}

uint64_t ShmExports::bytes() const {
  uint64_t sum = 0;
  for (const ShmExport& one : exports_) sum += one.memory.bytes;
  return sum;
}

}  // namespace mempool
