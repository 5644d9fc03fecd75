// SPDX-License-Identifier: Apache-2.0
// Owns the prompts of the index measurement: conversations over shared system prompts.
#pragma once

#include <cstdint>
#include <vector>

#include "mempool/types.h"

namespace mempool {

/// Make `sequences` prompts of 2,000 to 8,000 tokens out of a vocabulary of 32,000. Each begins
/// with one of 20 system prompts of 512 to 2,048 tokens, the k-th chosen with weight 1/k (Zipf);
/// or, in 40 of 100 cases, it is a turn more: the whole of an earlier prompt that leaves room, and
/// at least 64 tokens behind it. Equal seeds give equal prompts.
std::vector<std::vector<TokenId>> make_index_workload(uint32_t sequences, uint64_t seed);

}  // namespace mempool
