// SPDX-License-Identifier: Apache-2.0
// Owns the two ways in which the segments of a pool are told: to peers, and to transports.
#pragma once

#include <vector>

#include "core/block_pool.h"
#include "transport/gather_plan.h"
#include "transport/transport.h"

namespace mempool {

/// All segments, in rank order.
std::vector<PlanSegment> plan_segments(const BlockPool& pool);
/// One of them, as memory to register.
Region region_of(const BlockPool& pool, const PoolSegment& segment);

}  // namespace mempool
