// SPDX-License-Identifier: Apache-2.0
// Owns the mapping of what an agent lists.
#include "agent/attached_segments.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "core/check.h"
#include "core/memory_mapping.h"

namespace mempool {

Status AttachedSegments::map(const AttachWelcome& now, std::span<Descriptor> descriptors) {
  const size_t in_a_shard = now.shards == 0 ? 0 : now.segments.size() / now.shards;
  if (in_a_shard == 0 || in_a_shard * now.shards != now.segments.size() ||
      descriptors.size() != now.segments.size()) {
    return corruption("attach frame: segments without their memory, or not in all shards");
  }
  const auto first_shard = std::span(now.segments).first(in_a_shard);
  for (auto it = mapped_.begin(); it != mapped_.end();) {
    const bool there = std::ranges::find(first_shard, it->first, &AttachWelcome::Segment::region) !=
                       first_shard.end();
    if (!there) table_.drop(it->second);
    it = there ? std::next(it) : mapped_.erase(it);
  }
  for (size_t which = 0; which < in_a_shard; ++which) {
    const AttachWelcome::Segment& given = first_shard[which];
    if (mapped_.contains(given.region)) continue;
    MEMPOOL_ASSIGN_OR_RETURN(NewSegment segment, make(now, which, descriptors));
    table_.add(given.first_block, std::move(segment));
    mapped_[given.region] = given.first_block;
  }
  version_.store(now.segments_version, std::memory_order_release);
  return {};
}

Result<NewSegment> AttachedSegments::make(const AttachWelcome& now, size_t which,
                                          std::span<Descriptor> descriptors) const {
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<Placement> placements,
                           make_shards(now.shape, now.placement, now.shards));
  NewSegment segment;
  for (uint32_t shard = 0; shard < now.shards; ++shard) {
    const size_t at = now.segments.size() / now.shards * shard + which;
    const AttachWelcome::Segment& given = now.segments[at];
    if (uint64_t{given.first_block} + given.blocks > now.max_blocks) {
      return corruption("attach frame: a segment past the last block");
    }
    MEMPOOL_ASSIGN_OR_RETURN(BlockLayout layout,
                             make_layout(now.shape, placements[shard], given.blocks));
    if (given.adopted) {
      layout.block_stride = given.block_stride;
      layout.layer_stride = given.layer_stride;
      layout.part_stride = given.part_stride;
    }
    MEMPOOL_ASSIGN_OR_RETURN(MemoryMapping mapping,
                             MemoryMapping::map(descriptors[at], given.bytes, Access::kReadWrite));
    if (shard == rank_ && !given.adopted) mapping.populate();  // others' are looked at rarely
    SegmentMemory memory;
    const auto owner = std::make_shared<const MemoryMapping>(std::move(mapping));
    memory.data = owner->data();
    memory.bytes = given.bytes;
    memory.owner = owner;
    segment.layouts.push_back(layout);
    segment.memory.push_back(std::move(memory));
    segment.blocks = given.blocks;
    segment.adopted = given.adopted;
    segment.in_place = given.in_place;
  }
  return segment;
}

void AttachedSegments::unmap() {
  for (const auto& [region, first_block] : std::exchange(mapped_, {})) table_.drop(first_block);
}

}  // namespace mempool
