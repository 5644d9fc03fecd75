// SPDX-License-Identifier: Apache-2.0
// Owns the view of a block's bytes in one shard.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mempool/content.h"

namespace mempool {

/// Where one shard's part of a block lies.
struct BlockView {
  std::byte* segment = nullptr;  // first byte of the segment
  uint64_t block = 0;            // index inside the segment
  const BlockLayout* layout = nullptr;

  /// `layer` counts from the shard's first.
  std::byte* piece(uint32_t layer, uint32_t part) const {
    return segment + layout->piece_offset(block, layer, part);
  }
};

}  // namespace mempool
