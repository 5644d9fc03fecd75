// SPDX-License-Identifier: Apache-2.0
// Owns the contents of the simulated agents: small blocks, two tenants, prompts that share
// prefixes.
#pragma once

#include <span>
#include <vector>

#include "core/random.h"
#include "mempool/content.h"

namespace mempool::simulation {

/// Two layers, keys and values, two heads, 4 tokens a block: 64 bytes.
const ContentSpec& simulated_shape();
/// Contents of that shape, equal but for the tenant.
std::span<const Content> simulated_contents();
/// Tokens of one to `most_blocks` blocks over a small alphabet; the last block may be partial.
std::vector<TokenId> draw_tokens(Random& random, size_t most_blocks);

}  // namespace mempool::simulation
