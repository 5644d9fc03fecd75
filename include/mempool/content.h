// SPDX-License-Identifier: Apache-2.0
// Owns what a block's bytes mean (ContentSpec, ContentId) and how they lie in memory (Placement).
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "mempool/export.h"
#include "mempool/status.h"
#include "mempool/types.h"

namespace mempool {

enum class ElementType : uint8_t { kFloat32, kFloat16, kBfloat16, kFloat8E4m3, kFloat8E5m2, kInt8 };

/// Bytes of one element.
MEMPOOL_EXPORT uint32_t element_bytes(ElementType type);

/// Everything that decides what the KV of a token is. Two prompts share KV only when all of it is
/// equal, so each field goes into the ContentId; how the bytes lie (Placement) does not.
struct ContentSpec {
  std::string model;  // name and weights revision are the caller's words, compared as bytes
  std::string revision;
  std::string adapter;  // LoRA or other adapter; empty for none
  ElementType element = ElementType::kFloat16;
  std::string quantization;  // scheme of the KV itself; empty for none
  uint32_t layers = 0;
  uint32_t kv_heads = 0;   // 1 when mla_rank is given
  uint32_t head_size = 0;  // elements of one head's vector; unused when mla_rank is given
  uint32_t mla_rank = 0;   // elements of MLA's one compressed vector; 0: separate K and V
  uint32_t tokens_per_block = 16;
  std::string position_encoding;
  std::string tenant_salt;      // tenants with different salts never share KV
  std::vector<std::byte> root;  // whatever else the KV depends on (image hashes, for one)
};

/// 128-bit name of a content: the first half of SHA-256 over the spec's canonical bytes.
struct ContentId {
  std::array<uint64_t, 2> words{};
  auto operator<=>(const ContentId&) const = default;
};

/// A content as calls take it: the id, and the id of the spec without adapter, salt and root, which
/// two agents must share before any block can move between them. An agent counts a tenant's blocks
/// by `tenant`, which only the salt decides, whatever the model.
struct Content {
  ContentId id;
  ContentId model;
  uint64_t tenant = 0;  // of tenant_salt; 0 without one
  auto operator<=>(const Content&) const = default;
};

/// The tokens of a prompt under a content. Borrows the tokens for the length of a call.
struct Prompt {
  Content content;
  std::span<const TokenId> tokens;
};

/// Check the element type and the dimensions of a spec.
/// Errors: kInvalidArgument for a zero or oversized dimension, or more than one head with MLA.
MEMPOOL_EXPORT Status check_shape(const ContentSpec& spec);

/// Check a spec and name it. Errors: those of check_shape.
MEMPOOL_EXPORT Result<Content> make_content(const ContentSpec& spec);
MEMPOOL_EXPORT std::string to_string(const ContentId& id);

/// How one block lies in a segment: each layer's K and V apart (2 x layers pieces, as vLLM has it),
/// or everything in one run.
enum class BlockForm : uint8_t { kDiscrete, kAggregated };

/// The order inside one piece: [token][head][element] or [head][token][element].
enum class TokenOrder : uint8_t { kTokenHead, kHeadToken };

/// The most tensor-parallel ranks of one instance.
inline constexpr uint32_t kShardsMax = 64;

/// Where one shard keeps its part of every block, and in what shape. Never part of a key: two sides
/// exchange placements and the gather plan maps one onto the other.
struct Placement {
  BlockForm form = BlockForm::kDiscrete;
  TokenOrder order = TokenOrder::kTokenHead;
  uint32_t first_layer = 0;  // pipeline stage: layers [first_layer, first_layer + layers)
  uint32_t layers = 0;       // 0: all of the content's
  uint32_t first_head = 0;   // KV heads [first_head, first_head + heads)
  uint32_t heads = 0;        // 0: all of the content's
  bool replicated = false;   // other shards hold the same heads
  bool operator==(const Placement&) const = default;
};

/// Divide a content's heads over the shards of an instance, in rank order: as many consecutive
/// heads each, or, where there are fewer heads than shards (MLA has one), each head on as many
/// shards. `placement` says form and order, the same for all. Errors: kInvalidArgument for heads
/// and shards of which neither divides the other, and for a placement that names heads itself.
MEMPOOL_EXPORT Result<std::vector<Placement>> make_shards(const ContentSpec& spec,
                                                          const Placement& placement,
                                                          uint32_t shards);

/// Byte strides of one shard's blocks inside one segment: the piece of (block, layer, part) starts
/// at block * block_stride + layer * layer_stride + part * part_stride and is piece_bytes long.
/// Layers and heads count from the placement's first.
struct BlockLayout {
  uint32_t layers = 0;
  uint32_t parts = 0;  // 2: K and V; 1: MLA
  uint32_t heads = 0;
  uint32_t tokens = 0;
  uint32_t first_layer = 0;
  uint32_t first_head = 0;
  bool replicated = false;  // other shards hold the same heads; one of them is enough to send
  TokenOrder order = TokenOrder::kTokenHead;
  uint64_t vector_bytes = 0;  // one head's vector of one token
  uint64_t piece_bytes = 0;   // heads * tokens * vector_bytes
  uint64_t block_bytes = 0;   // layers * parts * piece_bytes
  uint64_t block_stride = 0;
  uint64_t layer_stride = 0;
  uint64_t part_stride = 0;

  uint64_t piece_offset(uint64_t block, uint32_t layer, uint32_t part) const {
    return block * block_stride + layer * layer_stride + part * part_stride;
  }
  /// Bytes from the start of a piece to one token's vector of one head.
  uint64_t vector_offset(uint32_t token, uint32_t head) const {
    const uint64_t row = order == TokenOrder::kTokenHead ? uint64_t{token} * heads + head
                                                         : uint64_t{head} * tokens + token;
    return row * vector_bytes;
  }
  bool operator==(const BlockLayout&) const = default;
};

/// Resolve a placement of a content inside a segment of `segment_blocks` blocks.
/// Errors: kInvalidArgument where the placement names layers or heads the content does not have.
MEMPOOL_EXPORT Result<BlockLayout> make_layout(const ContentSpec& spec, const Placement& placement,
                                               uint32_t segment_blocks);

}  // namespace mempool
