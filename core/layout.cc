// SPDX-License-Identifier: Apache-2.0
// Owns the arithmetic from a content and a placement to the shards of an instance and the byte
// strides of a segment.
#include <fmt/format.h>

#include <algorithm>

#include "core/check.h"
#include "mempool/content.h"

namespace mempool {
namespace {

constexpr uint64_t kSegmentBytesMax = INT64_MAX;  // offsets of a file are signed

/// Check that [first, first + count) lies inside `all`; a count of 0 means all of them.
Result<uint32_t> resolve_count(std::string_view name, uint32_t first, uint32_t count,
                               uint32_t all) {
  const uint32_t resolved = count == 0 ? all : count;
  if (uint64_t{first} + resolved <= all) return resolved;
  return invalid_argument(fmt::format("placement: {} {} to {} are asked for, the content has {}",
                                      name, first, uint64_t{first} + resolved - 1, all));
}

}  // namespace

Result<std::vector<Placement>> make_shards(const ContentSpec& spec, const Placement& placement,
                                           uint32_t shards) {
  MEMPOOL_RETURN_IF_ERROR(check_shape(spec));
  if (shards == 0 || shards > kShardsMax) {
    return invalid_argument(fmt::format("{} shards: give 1 to {}", shards, kShardsMax));
  }
  if (placement.first_head != 0 || placement.heads != 0 || placement.replicated) {
    return invalid_argument(
        "placement: which heads a shard holds follows from the number of shards; leave first_head, "
        "heads and replicated out");
  }
  if (spec.kv_heads % shards != 0 && shards % spec.kv_heads != 0) {
    return invalid_argument(
        fmt::format("{} KV heads do not divide over {} shards: one number must be a multiple of "
                    "the other",
                    spec.kv_heads, shards));
  }
  const uint32_t holders = std::max(shards / spec.kv_heads, 1u);  // of each head
  std::vector<Placement> result(shards, placement);
  for (uint32_t shard = 0; shard < shards; ++shard) {
    result[shard].heads = std::max(spec.kv_heads / shards, 1u);
    result[shard].first_head = shard / holders * result[shard].heads;
    result[shard].replicated = holders > 1;
  }
  return result;
}

Result<BlockLayout> make_layout(const ContentSpec& spec, const Placement& placement,
                                uint32_t segment_blocks) {
  MEMPOOL_RETURN_IF_ERROR(check_shape(spec));
  if (segment_blocks == 0 || segment_blocks - 1 > BlockAddress::kIndexMax) {
    return invalid_argument(fmt::format("placement: a segment of {} blocks, give 1 to {}",
                                        segment_blocks, BlockAddress::kIndexMax + 1));
  }
  const bool mla = spec.mla_rank != 0;
  BlockLayout layout;
  MEMPOOL_ASSIGN_OR_RETURN(
      layout.layers, resolve_count("layers", placement.first_layer, placement.layers, spec.layers));
  MEMPOOL_ASSIGN_OR_RETURN(
      layout.heads, resolve_count("heads", placement.first_head, placement.heads, spec.kv_heads));
  layout.parts = mla ? 1 : 2;
  layout.tokens = spec.tokens_per_block;
  layout.first_layer = placement.first_layer;
  layout.first_head = placement.first_head;
  layout.replicated = placement.replicated;
  layout.order = placement.order;
  layout.vector_bytes =
      uint64_t{mla ? spec.mla_rank : spec.head_size} * element_bytes(spec.element);
  // Each dimension is at most 2^16, so a piece is at most 2^50 bytes; only what follows can
  // overflow.
  layout.piece_bytes = layout.vector_bytes * layout.heads * layout.tokens;
  const uint64_t pieces = uint64_t{layout.layers} * layout.parts;
  uint64_t segment_bytes = 0;
  if (__builtin_mul_overflow(layout.piece_bytes, pieces, &layout.block_bytes) ||
      __builtin_mul_overflow(layout.block_bytes, uint64_t{segment_blocks}, &segment_bytes) ||
      segment_bytes > kSegmentBytesMax) {
    return invalid_argument(fmt::format(
        "placement: {} blocks of {} pieces of {} bytes are more than a segment can hold: give "
        "fewer blocks",
        segment_blocks, pieces, layout.piece_bytes));
  }
  const bool discrete = placement.form == BlockForm::kDiscrete;
  layout.block_stride = discrete ? layout.piece_bytes : layout.block_bytes;
  layout.part_stride = discrete ? layout.piece_bytes * segment_blocks : layout.piece_bytes;
  layout.layer_stride = layout.part_stride * layout.parts;
  return layout;
}

}  // namespace mempool
