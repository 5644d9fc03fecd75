// SPDX-License-Identifier: Apache-2.0
// Owns the hashing of a block's pieces, and the choice of the blocks that are hashed.
#include "core/checksum.h"

#include <fmt/format.h>

#define XXH_STATIC_LINKING_ONLY  // the state lies on the stack, without an allocation
#include <xxhash.h>

#include "core/random.h"

namespace mempool {
namespace {

constexpr uint64_t kSampleMask = 63;  // 1 in 64

}  // namespace

Result<Verify> parse_verify(std::string_view text) {
  for (const Verify verify : {Verify::kOff, Verify::kSampled, Verify::kAlways}) {
    if (text == to_string(verify)) return verify;
  }
  return invalid_argument(
      fmt::format("verify = \"{}\": give \"off\", \"sampled\" or \"always\"", text));
}

std::string_view to_string(Verify verify) {
  switch (verify) {
    case Verify::kOff:
      return "off";
    case Verify::kSampled:
      return "sampled";
    case Verify::kAlways:
      return "always";
  }
  return "unknown";
}

bool picks(Verify verify, uint32_t index, uint32_t generation) {
  if (verify != Verify::kSampled) return verify == Verify::kAlways;
  return (Random(uint64_t{generation} << 32 | index).next() & kSampleMask) == 0;
}

uint64_t block_checksum(const BlockLayout& layout, const std::byte* segment, uint64_t block) {
  const bool contiguous = layout.part_stride == layout.piece_bytes &&
                          layout.layer_stride == layout.parts * layout.piece_bytes;
  if (contiguous) {
    return XXH3_64bits(segment + layout.piece_offset(block, 0, 0), layout.block_bytes);
  }
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  for (uint32_t layer = 0; layer < layout.layers; ++layer) {
    for (uint32_t part = 0; part < layout.parts; ++part) {
      XXH3_64bits_update(&state, segment + layout.piece_offset(block, layer, part),
                         layout.piece_bytes);
    }
  }
  return XXH3_64bits_digest(&state);
}

uint64_t block_checksum_as(const BlockLayout& as, const BlockLayout& layout,
                           const std::byte* segment, uint64_t block) {
  const bool token_head = as.order == TokenOrder::kTokenHead;
  const uint32_t rows = token_head ? as.tokens : as.heads;
  const uint32_t columns = token_head ? as.heads : as.tokens;
  const uint32_t first_head = as.first_head - layout.first_head;
  const uint32_t first_layer = as.first_layer - layout.first_layer;
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  for (uint32_t layer = first_layer; layer < first_layer + as.layers; ++layer) {
    for (uint32_t part = 0; part < as.parts; ++part) {
      const std::byte* piece = segment + layout.piece_offset(block, layer, part);
      for (uint32_t row = 0; row < rows; ++row) {
        for (uint32_t column = 0; column < columns; ++column) {
          const uint32_t token = token_head ? row : column;
          const uint32_t head = first_head + (token_head ? column : row);
          XXH3_64bits_update(&state, piece + layout.vector_offset(token, head),
                             layout.vector_bytes);
        }
      }
    }
  }
  return XXH3_64bits_digest(&state);
}

bool same_sums(const BlockLayout& a, const BlockLayout& b) {
  return a.order == b.order && a.layers == b.layers && a.first_layer == b.first_layer &&
         a.heads == b.heads && a.first_head == b.first_head && a.parts == b.parts &&
         a.piece_bytes == b.piece_bytes;
}

}  // namespace mempool
