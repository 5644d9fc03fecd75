// SPDX-License-Identifier: Apache-2.0
// Owns the checked copy of a sealed block out of the pool.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "mempool/content.h"
#include "mempool/types.h"

namespace mempool {

/// Errors: kInvalidArgument for a buffer of another size than a block.
Status check_buffer(std::span<const std::byte> buffer, const BlockLayout& layout);
/// Copy block `block` of a segment in (layer, part) order, without gaps, and compare the copy with
/// the sum that was sealed. Errors: kCorruption. Requires: the block is pinned; check_buffer().
Status copy_block(const BlockLayout& layout, const std::byte* segment, uint64_t block,
                  const BlockAddress& address, std::optional<uint64_t> sealed,
                  std::span<std::byte> out);

}  // namespace mempool
