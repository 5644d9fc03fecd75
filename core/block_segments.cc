// SPDX-License-Identifier: Apache-2.0
// Owns the table of segments, and each change of it.
#include "core/block_segments.h"

#include <fcntl.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "core/check.h"

namespace mempool {

SegmentMemory SegmentMemory::of(HostMemory memory) {
  auto owner = std::make_shared<const HostMemory>(std::move(memory));
  const HostMemory& its = *owner;
  return {its.data(),       its.size(),       its.descriptor(),
          std::move(owner), its.page_bytes(), its.page_note()};
}

void BlockSegments::add(uint32_t first_block, NewSegment segment) {
  MEMPOOL_CHECK(!segment.layouts.empty() && segment.layouts.size() == segment.memory.size());
  shards_ = static_cast<uint32_t>(segment.layouts.size());
  std::vector<const PoolSegment*> in_order(all().begin(), all().end());
  for (uint32_t shard = 0; shard < shards_; ++shard) {
    const auto region = static_cast<uint32_t>(segments_.size());
    segments_.push_back({region, shard, first_block, segment.blocks, segment.adopted,
                         segment.in_place, segment.layouts[shard],
                         std::move(segment.memory[shard])});
    in_order.push_back(&segments_.back());
  }
  publish(std::move(in_order));
}

void BlockSegments::drop(uint32_t first_block) {
  std::vector<const PoolSegment*> in_order(all().begin(), all().end());
  std::erase_if(in_order, [first_block](const PoolSegment* segment) {
    return segment->first_block == first_block;
  });
  MEMPOOL_CHECK(in_order.size() + shards_ == all().size());
  std::vector<uint32_t> gone;
  for (const PoolSegment* segment : all()) {
    if (segment->first_block == first_block) gone.push_back(segment->region);
  }
  publish(std::move(in_order));
  for (const uint32_t region : gone) {
    SegmentMemory& memory = segments_[region].memory;
    // The pages go at once, even where a peer or an engine has yet to unmap them.
    constexpr int kHole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    if (!segments_[region].adopted && memory.descriptor >= 0) {
      (void)fallocate(memory.descriptor, kHole, 0, static_cast<off_t>(memory.bytes));
    }
    memory = {};
  }
}

void BlockSegments::publish(std::vector<const PoolSegment*> in_order) {
  std::ranges::sort(in_order, {}, [](const PoolSegment* segment) {
    return std::pair(segment->shard, segment->first_block);
  });
  const size_t in_a_shard = in_order.size() / shards_;
  tables_.push_back({std::move(in_order), in_a_shard});
  now_.store(&tables_.back(), std::memory_order_release);
}

const PoolSegment* BlockSegments::holding(uint32_t index) const {
  const std::span<const PoolSegment* const> segments = of_first_shard();
  const auto after = std::ranges::upper_bound(segments, index, {}, &PoolSegment::first_block);
  if (after == segments.begin()) return nullptr;
  const PoolSegment& before = **std::prev(after);
  return index - before.first_block < before.blocks ? &before : nullptr;
}

const PoolSegment* BlockSegments::find_region(uint32_t region) const {
  if (region >= segments_.size() || segments_[region].memory.data == nullptr) return nullptr;
  return &segments_[region];
}

Result<uint32_t> BlockSegments::find_place(uint32_t blocks, uint64_t limit) const {
  uint32_t at = 0;
  for (const PoolSegment* segment : of_first_shard()) {
    if (segment->first_block - at >= blocks) return at;
    at = segment->first_block + segment->blocks;
  }
  if (uint64_t{at} + blocks <= limit) return at;
  return resource_exhausted(
      fmt::format("{} more blocks behind {} are more than the {} that the pool may have "
                  "(pool.max_blocks)",
                  blocks, at, limit));
}

BlockView BlockSegments::view(uint32_t index, uint32_t shard) const {
  const Table& now = table();
  size_t i = now.in_a_shard * (shard + 1) - 1;
  while (now.in_order[i]->first_block > index) --i;
  const PoolSegment& segment = *now.in_order[i];
  return {segment.memory.data, index - segment.first_block, &segment.layout};
}

}  // namespace mempool
