// SPDX-License-Identifier: Apache-2.0
// Owns the checked copy of a sealed block out of the pool.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "core/block_view.h"
#include "mempool/status.h"
#include "mempool/types.h"

namespace mempool {

/// Errors: kInvalidArgument for a buffer of another size than a block, in all shards.
Status check_buffer(std::span<const std::byte> buffer, uint64_t block_bytes);
/// Copy a block of which `shards` are all parts, one after the other, each in (layer, part) order
/// without gaps, and compare the copy with the sum that was sealed. Errors: kCorruption.
/// Requires: the block is pinned; check_buffer().
Status copy_block(std::span<const BlockView> shards, const BlockAddress& address,
                  std::optional<uint64_t> sealed, std::span<std::byte> out);

/// Give the sum to seal a block with. Errors: kCorruption where shards that hold the same heads
/// hold different bytes of them.
Result<uint64_t> seal_sum(std::span<const BlockView> shards, const BlockAddress& address);

}  // namespace mempool
