// SPDX-License-Identifier: Apache-2.0
// Owns the copying into the pool, and the accounting of whose block is whose after it.
#include "agent/copied_insert.h"

#include <algorithm>
#include <cstring>

#include "core/check.h"

namespace mempool {
namespace {

/// Copy a block of all shards into another. Requires: the caller may write to it.
Status copy_into(const Pool& pool, const BlockAddress& from, const BlockAddress& to) {
  for (uint32_t shard = 0; shard < pool.shards(); ++shard) {
    const BlockLayout& layout = pool.layout(0, shard);
    for (uint32_t layer = 0; layer < layout.layers; ++layer) {
      for (uint32_t part = 0; part < layout.parts; ++part) {
        MEMPOOL_ASSIGN_OR_RETURN(const auto source, pool.piece(from, layer, part, shard));
        MEMPOOL_ASSIGN_OR_RETURN(const auto target, pool.piece(to, layer, part, shard));
        std::memcpy(target.data(), source.data(), source.size());
      }
    }
  }
  return {};
}

/// Take blocks of the pool for those positions from `first` on that are copied, and fill them.
Status make_copies(Pool& pool, const std::vector<bool>& copied, size_t first,
                   std::vector<BlockAddress>& list, std::vector<BlockAddress>& fresh) {
  const auto wanted =
      std::count(copied.begin() + static_cast<ptrdiff_t>(first), copied.end(), true);
  if (wanted == 0) return {};
  MEMPOOL_ASSIGN_OR_RETURN(fresh, pool.alloc(static_cast<size_t>(wanted)));
  size_t next = 0;
  for (size_t position = first; position < list.size(); ++position) {
    if (!copied[position]) continue;
    MEMPOOL_RETURN_IF_ERROR(copy_into(pool, list[position], fresh[next]));
    list[position] = fresh[next++];
  }
  return {};
}

}  // namespace

std::vector<BlockAddress> copied_blocks(std::span<const BlockAddress> blocks,
                                        const std::vector<bool>& copied) {
  std::vector<BlockAddress> result;
  for (size_t position = 0; position < copied.size(); ++position) {
    if (copied[position]) result.push_back(blocks[position]);
  }
  return result;
}

Result<InsertResult> insert_copies(Pool& pool, std::span<const BlockAddress> blocks,
                                   const std::vector<bool>& copied, const Prompt* prompt,
                                   const InsertList& insert, const EndCopy& end_copy) {
  if (copied.empty()) return insert(blocks);
  std::vector<BlockAddress> held;
  if (prompt != nullptr) held = pool.match(*prompt).blocks;
  const size_t served = std::min(held.size(), blocks.size());
  std::vector<BlockAddress> list(blocks.begin(), blocks.end());
  std::copy_n(held.begin(), served, list.begin());
  std::vector<BlockAddress> fresh;
  const Status made = make_copies(pool, copied, served, list, fresh);
  Result<InsertResult> result = made.ok() ? insert(list) : made;
  held.insert(held.end(), fresh.begin(), fresh.end());
  // What was published lives on in the index; copies that were not are freed.
  const Status unpinned = pool.unpin(held);
  end_copy(copied_blocks(blocks, copied));
  if (!result.ok()) return result;
  MEMPOOL_RETURN_IF_ERROR(unpinned);
  std::vector<BlockAddress> duplicates;
  for (size_t position = 0; position < result->admitted; ++position) {
    if (result->serving[position] != blocks[position]) duplicates.push_back(blocks[position]);
  }
  result->duplicates = std::move(duplicates);
  return result;
}

}  // namespace mempool
