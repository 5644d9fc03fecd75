// SPDX-License-Identifier: Apache-2.0
// Owns the making of what is told.
#include "agent/told_segments.h"

namespace mempool {

std::vector<PlanSegment> plan_segments(const BlockPool& pool) {
  std::vector<PlanSegment> result;
  for (const PoolSegment* segment : pool.segments().all()) {
    result.push_back(
        {segment->region, segment->first_block, segment->blocks, segment->layout, segment->shard});
  }
  return result;
}

Region region_of(const BlockPool& pool, const PoolSegment& segment) {
  const SegmentMemory& memory = segment.memory;
  return {segment.region,
          MemoryKind::kHost,
          segment.adopted,
          memory.data,
          memory.bytes,
          memory.descriptor,
          {pool.generation_memory().descriptor(), segment.first_block, segment.blocks,
           segment.layout.block_stride}};
}

}  // namespace mempool
