// SPDX-License-Identifier: Apache-2.0
// Owns the check of the strides by which an engine's own memory is laid out.
#pragma once

#include <cstdint>

#include "mempool/adopt.h"
#include "mempool/content.h"
#include "mempool/status.h"

namespace mempool {

/// Lay `blocks` blocks of a shard out in memory of an engine's own; `own` is a layout of the pool's
/// in that shard. Errors: kInvalidArgument, naming the stride, where pieces would overlap or lie
/// outside, or blocks could not be told apart by arithmetic.
Result<BlockLayout> adopted_layout(const BlockLayout& own, const AdoptedMemory& memory,
                                   uint32_t blocks);

}  // namespace mempool
