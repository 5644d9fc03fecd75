// SPDX-License-Identifier: Apache-2.0
// Owns the copying, piece by piece.
#include "agent/block_copy.h"

#include <algorithm>

#include <fmt/format.h>

#include "core/checksum.h"

namespace mempool {

Status check_buffer(std::span<const std::byte> buffer, const BlockLayout& layout) {
  if (buffer.size() == layout.block_bytes) return {};
  return invalid_argument(
      fmt::format("a block has {} bytes, the buffer {}", layout.block_bytes, buffer.size()));
}

Status copy_block(const BlockLayout& layout, const std::byte* segment, uint64_t block,
                  const BlockAddress& address, std::optional<uint64_t> sealed,
                  std::span<std::byte> out) {
  std::byte* at = out.data();
  for (uint32_t layer = 0; layer < layout.layers; ++layer) {
    for (uint32_t part = 0; part < layout.parts; ++part) {
      at = std::copy_n(segment + layout.piece_offset(block, layer, part), layout.piece_bytes, at);
    }
  }
  BlockLayout packed = layout;  // of the copy: pieces in order, nothing between them
  packed.part_stride = layout.piece_bytes;
  packed.layer_stride = layout.parts * layout.piece_bytes;
  if (!sealed || block_checksum(packed, out.data(), 0) == *sealed) return {};
  return corruption(fmt::format(
      "block {} does not have the bytes that were sealed; it is set aside", to_string(address)));
}

}  // namespace mempool
