// SPDX-License-Identifier: Apache-2.0
// Owns the copying, piece by piece.
#include "agent/block_copy.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "core/checksum.h"

namespace mempool {

Status check_buffer(std::span<const std::byte> buffer, uint64_t block_bytes) {
  if (buffer.size() == block_bytes) return {};
  return invalid_argument(
      fmt::format("a block has {} bytes, the buffer {}", block_bytes, buffer.size()));
}

Status copy_block(std::span<const BlockView> shards, const BlockAddress& address,
                  std::optional<uint64_t> sealed, std::span<std::byte> out) {
  std::byte* at = out.data();
  std::vector<BlockLayout> layouts;  // of the copy: pieces in order, nothing between them
  layouts.reserve(shards.size());
  std::vector<BlockView> copies;
  for (const BlockView& shard : shards) {
    BlockLayout& layout = layouts.emplace_back(*shard.layout);
    layout.part_stride = layout.piece_bytes;
    layout.layer_stride = layout.parts * layout.piece_bytes;
    copies.push_back({at, 0, &layout});
    for (uint32_t layer = 0; layer < layout.layers; ++layer) {
      for (uint32_t part = 0; part < layout.parts; ++part) {
        at = std::copy_n(shard.piece(layer, part), layout.piece_bytes, at);
      }
    }
  }
  if (!sealed || block_checksum(copies) == *sealed) return {};
  return corruption(fmt::format(
      "block {} does not have the bytes that were sealed; it is set aside", to_string(address)));
}

Result<uint64_t> seal_sum(std::span<const BlockView> shards, const BlockAddress& address) {
  if (replicas_agree(shards)) return block_checksum(shards);
  return corruption(fmt::format(
      "block {}: ranks hold different bytes of the same heads; one of them has yet to write, or "
      "computes otherwise",
      to_string(address)));
}

}  // namespace mempool
