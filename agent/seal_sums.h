// SPDX-License-Identifier: Apache-2.0
// Owns the hashing that the state machines ask of their driver, outside the agent's lock.
#pragma once

#include <cstdint>
#include <vector>

#include "agent/action.h"
#include "core/block_pool.h"
#include "mempool/status.h"

namespace mempool {

/// Give those of the blocks whose bytes do not have their sum.
std::vector<uint32_t> find_bad(const BlockPool& pool, const VerifyBlocks& verify);

/// Make the sums that the target has to find. The source's own are checked on the way, for a fresh
/// sum of wrong bytes would hide them. None where the layouts do not map: the plan says why.
/// Errors: kCorruption.
Result<std::vector<SealedSum>> resum(const BlockPool& pool, const FinishData& data);

}  // namespace mempool
