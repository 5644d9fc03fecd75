// SPDX-License-Identifier: Apache-2.0
// Owns the making of a pool, and its growing and shrinking by segments.
#include <new>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "core/block_pool.h"
#include "core/memory_room.h"

namespace mempool {
namespace {

constexpr uint64_t kFirstGeneration = 1;  // a zeroed word or address never names a block

Status check_count(Medium medium, uint64_t blocks, size_t segments) {
  if (blocks != 0 && blocks - 1 <= BlockAddress::kIndexMax) return {};
  return invalid_argument(fmt::format("{} pool: {} blocks in {} segments, give 1 to {}",
                                      to_string(medium), blocks, segments,
                                      BlockAddress::kIndexMax + 1));
}

}  // namespace

Result<std::unique_ptr<BlockPool>> BlockPool::create(const PoolOptions& options,
                                                     uint64_t incarnation) {
  if (options.medium != Medium::kHost) {
    return unsupported(fmt::format("{} pool: this build keeps blocks in host memory only",
                                   to_string(options.medium)));
  }
  const std::vector<uint32_t>& counts = options.segment_blocks;
  const uint64_t blocks = std::accumulate(counts.begin(), counts.end(), uint64_t{0});
  MEMPOOL_RETURN_IF_ERROR(check_count(options.medium, blocks, counts.size()));
  std::unique_ptr<BlockPool> pool(new BlockPool());
  pool->medium_ = options.medium;
  pool->incarnation_ = incarnation;
  pool->shape_ = options.shape;
  pool->placement_ = options.placement;
  pool->huge_pages_ = options.huge_pages;
  pool->max_blocks_ = std::max(static_cast<uint32_t>(blocks), options.max_blocks);
  MEMPOOL_RETURN_IF_ERROR(check_count(options.medium, pool->max_blocks_, counts.size()));
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<Placement> shards,
                           make_shards(options.shape, options.placement, options.shards));
  for (const Placement& shard : shards) {
    MEMPOOL_ASSIGN_OR_RETURN(const BlockLayout layout,
                             make_layout(options.shape, shard, counts.front()));
    pool->layouts_.push_back(layout);
  }
  MEMPOOL_RETURN_IF_ERROR(pool->check_room_for(counts));
  MEMPOOL_ASSIGN_OR_RETURN(
      pool->generation_memory_,
      HostMemory::create("mempool-generations", (pool->max_blocks_ + 1) * sizeof(uint64_t)));
  pool->generations_ = reinterpret_cast<std::atomic<uint64_t>*>(pool->generation_memory_.data());
  for (uint32_t index = 0; index <= pool->max_blocks_; ++index) {
    new (pool->generations_ + index) std::atomic<uint64_t>(kFirstGeneration);
  }
  pool->free_ = FreeMap(pool->max_blocks_, FreeMap::Start::kAllTaken);
  for (const uint32_t count : counts) {
    MEMPOOL_ASSIGN_OR_RETURN(NewSegment segment, pool->make_segment(count));
    MEMPOOL_ASSIGN_OR_RETURN(const uint32_t first, pool->add_segment(std::move(segment)));
    pool->open_segment(first);
  }
  return pool;
}

/// Ask for room for everything before any of it is touched.
Status BlockPool::check_room_for(std::span<const uint32_t> segment_blocks) const {
  uint64_t bytes = 0;
  for (const uint32_t blocks : segment_blocks) {
    uint64_t more = 0;
    const uint64_t one = block_bytes() + sizeof(uint64_t) + sizeof(Record) + sizeof(uint64_t);
    if (!__builtin_mul_overflow(one, uint64_t{blocks}, &more) &&
        !__builtin_add_overflow(bytes, more, &bytes)) {
      continue;
    }
    return invalid_argument(
        fmt::format("{} pool: {} blocks of {} bytes are more than an address can count: give fewer",
                    to_string(medium_), blocks, block_bytes()));
  }
  const bool may_be_huge = huge_pages_ != HugePages::kNever && free_huge_page_bytes() >= bytes;
  if (may_be_huge) return {};
  return check_room(bytes).with_context(to_string(medium_) + " pool");
}

Result<NewSegment> BlockPool::make_segment(uint32_t blocks) const {
  const uint32_t counts[] = {blocks};
  MEMPOOL_RETURN_IF_ERROR(check_count(medium_, blocks, 1));
  MEMPOOL_RETURN_IF_ERROR(check_room_for(counts));
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<Placement> placements,
                           make_shards(shape_, placement_, shards()));
  NewSegment segment;
  segment.blocks = blocks;
  for (uint32_t shard = 0; shard < shards(); ++shard) {
    MEMPOOL_ASSIGN_OR_RETURN(const BlockLayout layout,
                             make_layout(shape_, placements[shard], blocks));
    MEMPOOL_ASSIGN_OR_RETURN(HostMemory memory,
                             HostMemory::create(fmt::format("mempool-blocks-{}", shard),
                                                layout.block_bytes * blocks, huge_pages_));
    segment.layouts.push_back(layout);
    segment.memory.push_back(SegmentMemory::of(std::move(memory)));
  }
  return segment;
}

Result<uint32_t> BlockPool::add_segment(NewSegment segment) {
  MEMPOOL_ASSIGN_OR_RETURN(const uint32_t first, segments_.find_place(segment.blocks, max_blocks_));
  if (const uint64_t end = uint64_t{first} + segment.blocks; end > records_.size()) {
    counts_.blocks[static_cast<size_t>(BlockState::kAbsent)] += end - records_.size();
    records_.resize(end);
    checksums_.resize(end);
  }
  segments_.add(first, std::move(segment));
  note_segments();
  return first;
}

const PoolSegment& BlockPool::segment_at(uint32_t first_block) const {
  for (const PoolSegment* segment : segments_.of_first_shard()) {
    if (segment->first_block == first_block) return *segment;
  }
  MEMPOOL_CHECK(false && "no segment begins there");
  std::abort();
}

void BlockPool::open_segment(uint32_t first_block) {
  set_idle(first_block,
           segment_at(first_block).adopted ? BlockState::kUnclaimed : BlockState::kFree);
}

void BlockPool::close_segment(uint32_t first_block) {
  set_idle(first_block, BlockState::kAbsent);
}

// A block whose generations are used up stays retired, but for a closed segment.
void BlockPool::set_idle(uint32_t first_block, BlockState idle) {
  const PoolSegment& segment = segment_at(first_block);
  for (uint32_t index = first_block; index < first_block + segment.blocks; ++index) {
    Record& record = records_[index];
    evictable_ -= record.pins == 0 && can_make_room(record);
    record.idle = idle;
    evictable_ += record.pins == 0 && can_make_room(record);
    if (!is_idle(record.state)) continue;
    if (record.state == BlockState::kFree) free_.withhold(index);
    const bool retired = low_generation(index) == 0 && idle != BlockState::kAbsent;
    enter(index, retired ? BlockState::kRetired : idle);
    if (record.state == BlockState::kFree) free_.give(index);
  }
}

uint32_t BlockPool::common_blocks() const {
  uint32_t blocks = 0;
  for (const PoolSegment* segment : segments_.of_first_shard()) {
    if (is_common(segment->first_block)) blocks += segment->blocks;
  }
  return blocks;
}

uint32_t BlockPool::present(uint32_t first_block) const {
  const PoolSegment& segment = segment_at(first_block);
  uint32_t present = 0;
  for (uint32_t index = first_block; index < first_block + segment.blocks; ++index) {
    present += records_[index].state != BlockState::kAbsent;
  }
  return present;
}

void BlockPool::drop_segment(uint32_t first_block) {
  MEMPOOL_CHECK(present(first_block) == 0);
  segments_.drop(first_block);
  note_segments();
}

Status BlockPool::claim(SessionId session, std::span<const uint32_t> indices,
                        std::vector<BlockAddress>& out) {
  for (size_t i = 0; i < indices.size(); ++i) {
    Record* const record = indices[i] < records_.size() ? &records_[indices[i]] : nullptr;
    if (record != nullptr && record->state == BlockState::kUnclaimed && record->listed == 0) {
      record->listed = 1;
      continue;
    }
    const bool twice = record != nullptr && record->listed != 0;
    for (const uint32_t index : indices.first(i)) records_[index].listed = 0;
    return resource_exhausted(
        fmt::format("block {} of the {} pool cannot be claimed: {}", indices[i], to_string(medium_),
                    twice ? "it is named twice" : to_string(state(indices[i]))));
  }
  for (const uint32_t index : indices) {
    records_[index].listed = 0;
    enter(index, BlockState::kWriting);
    add_pin(session, index);
    out.push_back(address(index));
  }
  return {};
}

}  // namespace mempool
