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

}  // namespace mempool
