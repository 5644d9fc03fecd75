// SPDX-License-Identifier: Apache-2.0
// Owns the hashing of a block's pieces, and the choice of the blocks that are hashed.
#include "core/checksum.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#define XXH_STATIC_LINKING_ONLY  // the state lies on the stack, without an allocation
#include <xxhash.h>

#include "core/random.h"

namespace mempool {
namespace {

constexpr uint64_t kSampleMask = 63;  // 1 in 64

bool holds_head(const BlockLayout& layout, uint32_t head) {
  return head >= layout.first_head && head - layout.first_head < layout.heads;
}

uint64_t sum_of(const BlockView& part) {
  const BlockLayout& layout = *part.layout;
  const bool contiguous = layout.part_stride == layout.piece_bytes &&
                          layout.layer_stride == layout.parts * layout.piece_bytes;
  if (contiguous) return XXH3_64bits(part.piece(0, 0), layout.block_bytes);
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  for (uint32_t layer = 0; layer < layout.layers; ++layer) {
    for (uint32_t kv = 0; kv < layout.parts; ++kv) {
      XXH3_64bits_update(&state, part.piece(layer, kv), layout.piece_bytes);
    }
  }
  return XXH3_64bits_digest(&state);
}

/// Where the vector of one token and head lies, both counted as the content numbers them.
const std::byte* find_vector(std::span<const BlockView> shards, uint32_t layer, uint32_t kv,
                             uint32_t token, uint32_t head) {
  const auto holder = std::ranges::find_if(
      shards, [head](const BlockView& part) { return holds_head(*part.layout, head); });
  const BlockLayout& layout = *holder->layout;
  return holder->piece(layer - layout.first_layer, kv) +
         layout.vector_offset(token, head - layout.first_head);
}

uint64_t sum_as(const BlockLayout& as, std::span<const BlockView> shards) {
  const bool token_head = as.order == TokenOrder::kTokenHead;
  const uint32_t rows = token_head ? as.tokens : as.heads;
  const uint32_t columns = token_head ? as.heads : as.tokens;
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  for (uint32_t layer = as.first_layer; layer < as.first_layer + as.layers; ++layer) {
    for (uint32_t kv = 0; kv < as.parts; ++kv) {
      for (uint32_t row = 0; row < rows; ++row) {
        for (uint32_t column = 0; column < columns; ++column) {
          const uint32_t token = token_head ? row : column;
          const uint32_t head = as.first_head + (token_head ? column : row);
          XXH3_64bits_update(&state, find_vector(shards, layer, kv, token, head), as.vector_bytes);
        }
      }
    }
  }
  return XXH3_64bits_digest(&state);
}

/// The sum of the only shard, or of several one sum over theirs.
template <typename Shard, typename Sum>
uint64_t fold(std::span<const Shard> shards, Sum sum) {
  if (shards.size() == 1) return sum(shards.front());
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  for (const Shard& shard : shards) {
    const uint64_t one = sum(shard);
    XXH3_64bits_update(&state, &one, sizeof(one));
  }
  return XXH3_64bits_digest(&state);
}

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

uint64_t block_checksum(std::span<const BlockView> shards) {
  return fold(shards, [](const BlockView& part) { return sum_of(part); });
}

uint64_t block_checksum_as(std::span<const BlockLayout> as, std::span<const BlockView> shards) {
  return fold(as, [&](const BlockLayout& other) { return sum_as(other, shards); });
}

bool replicas_agree(std::span<const BlockView> shards) {
  if (!shards.front().layout->replicated) return true;
  return std::ranges::all_of(shards, [shards](const BlockView& part) {
    const BlockLayout& layout = *part.layout;
    const BlockView& first = *std::ranges::find_if(shards, [&](const BlockView& other) {
      return other.layout->first_head == layout.first_head;
    });
    for (uint32_t layer = 0; layer < layout.layers; ++layer) {
      for (uint32_t kv = 0; kv < layout.parts; ++kv) {
        const std::byte* of_first = first.piece(layer, kv);
        const std::byte* own = part.piece(layer, kv);
        if (own != of_first && std::memcmp(own, of_first, layout.piece_bytes) != 0) return false;
      }
    }
    return true;
  });
}

bool maps(std::span<const BlockLayout> as, std::span<const BlockLayout> in) {
  return std::ranges::all_of(as, [in](const BlockLayout& other) {
    for (uint32_t head = 0; head < other.heads; ++head) {
      const bool held = std::ranges::any_of(in, [&](const BlockLayout& layout) {
        return layout.parts == other.parts && layout.tokens == other.tokens &&
               layout.vector_bytes == other.vector_bytes &&
               other.first_layer >= layout.first_layer &&
               uint64_t{other.first_layer} + other.layers <=
                   uint64_t{layout.first_layer} + layout.layers &&
               holds_head(layout, other.first_head + head);
      });
      if (!held) return false;
    }
    return true;
  });
}

bool same_sums(std::span<const BlockLayout> a, std::span<const BlockLayout> b) {
  return std::ranges::equal(a, b, [](const BlockLayout& one, const BlockLayout& other) {
    return one.order == other.order && one.layers == other.layers &&
           one.first_layer == other.first_layer && one.heads == other.heads &&
           one.first_head == other.first_head && one.parts == other.parts &&
           one.piece_bytes == other.piece_bytes;
  });
}

}  // namespace mempool
