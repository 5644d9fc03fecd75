// SPDX-License-Identifier: Apache-2.0
// Owns the bounds, and the words that say which one was passed.
#include "agent/call_checks.h"

#include <fmt/format.h>

#include "agent/wire.h"
#include "core/canonical.h"
#include "core/check.h"

namespace mempool {
namespace {

std::string_view dimension_that_differs(const ContentSpec& left, const ContentSpec& right) {
  if (left.layers != right.layers) return "layers";
  if (left.kv_heads != right.kv_heads) return "kv_heads";
  if (left.head_size != right.head_size) return "head_size";
  if (left.mla_rank != right.mla_rank) return "mla_rank";
  if (left.element != right.element) return "element";
  if (left.tokens_per_block != right.tokens_per_block) return "tokens_per_block";
  return "";
}

Status check_ready(const TransferOptions& options) {
  if (options.mode != TransferMode::kByLayer || options.ready.reached()) return {};
  return invalid_argument("by layer, each send_layers() has its own fence; leave `ready` out");
}

}  // namespace

Result<Content> name_content(const ContentSpec& spec, const ContentSpec& pool,
                             const ContentId& model) {
  const std::string_view differs = dimension_that_differs(spec, pool);
  if (!differs.empty()) {
    return invalid_argument(fmt::format(
        "the content's {} is not the pool's; a content of another shape needs a pool of its own",
        differs));
  }
  MEMPOOL_ASSIGN_OR_RETURN(const Content content, make_content(spec));
  MEMPOOL_RETURN_IF_ERROR(check_model(content, model));
  return content;
}

Status check_model(const Content& content, const ContentId& model) {
  if (content.model == model) return {};
  return invalid_argument(
      fmt::format("a content of another model ({}) than this pool's ({}): name, revision, element, "
                  "quantization, position encoding and shape must be the same",
                  to_string(content.model), to_string(model)));
}

Result<std::vector<ContentId>> hash_keys(std::span<const std::string_view> keys) {
  if (keys.size() > kKeysMax) {
    return invalid_argument(
        fmt::format("a list of {} keys; give at most {} in one call", keys.size(), kKeysMax));
  }
  std::vector<ContentId> ids;
  ids.reserve(keys.size());
  for (const std::string_view key : keys) {
    if (key.empty() || key.size() > kKeyBytesMax) {
      return invalid_argument(fmt::format("key {} of the list has {} bytes; give 1 to {}",
                                          ids.size(), key.size(), kKeyBytesMax));
    }
    MEMPOOL_ASSIGN_OR_RETURN(const ContentId id, key_hash(key));
    ids.push_back(id);
  }
  return ids;
}

Status check_insert(const Prompt& prompt, size_t blocks, size_t block_tokens) {
  const size_t whole = prompt.tokens.size() / block_tokens;
  if (blocks == whole) return {};
  return invalid_argument(
      fmt::format("insert got {} blocks for the {} whole blocks of {} tokens; give one for each",
                  blocks, whole, prompt.tokens.size()));
}

Status check_peer_words(std::string_view name, std::string_view address) {
  if (name.size() <= kNameBytesMax && address.size() <= kNameBytesMax) return {};
  return invalid_argument(
      fmt::format("a peer's name of {} bytes, or address of {}; give at most {}", name.size(),
                  address.size(), kNameBytesMax));
}

Result<SegmentView> segment_view(const BlockSegments& segments, size_t segment, uint32_t shard,
                                 ElementType element) {
  const size_t in_a_shard = segments.of_first_shard().size();
  if (segment >= in_a_shard || shard >= segments.shards()) {
    return not_found(fmt::format("segment {} of shard {}; the pool has {} segments in {} shards",
                                 segment, shard, in_a_shard, segments.shards()));
  }
  const PoolSegment& its = *segments.all()[in_a_shard * shard + segment];
  return SegmentView{its.first_block, its.blocks,      its.adopted,     element,
                     its.layout,      its.memory.data, its.memory.owner};
}

Status check_piece(const BlockLayout& layout, uint32_t shards, uint32_t layer, uint32_t part,
                   uint32_t shard) {
  if (layer < layout.layers && part < layout.parts && shard < shards) return {};
  return invalid_argument(fmt::format(
      "no piece (layer {}, part {}, shard {}); a block has {} layers of {} parts in {} shards",
      layer, part, shard, layout.layers, layout.parts, shards));
}

Status check_transfer(const Prompt& prompt, size_t blocks, const TransferOptions& options,
                      size_t block_tokens) {
  const size_t needed = (prompt.tokens.size() + block_tokens - 1) / block_tokens;
  if (prompt.tokens.empty() || blocks != needed) {
    return invalid_argument(fmt::format("{} tokens need {} blocks of {} tokens, the list has {}",
                                        prompt.tokens.size(), needed, block_tokens, blocks));
  }
  if (prompt.tokens.size() > kOfferTokensMax || needed > kOfferBlocksMax ||
      options.user_data.size() > kUserDataBytesMax) {
    return invalid_argument(
        fmt::format("at most {} tokens, {} blocks and {} bytes of user data a transfer",
                    kOfferTokensMax, kOfferBlocksMax, kUserDataBytesMax));
  }
  return check_ready(options);
}

Status check_places(size_t blocks, std::span<const BlockAddress> places,
                    const TransferOptions& options) {
  if (blocks == 0 || blocks != places.size()) {
    return invalid_argument(
        fmt::format("{} blocks and {} places; give a place for each block, and at least one",
                    blocks, places.size()));
  }
  if (blocks > kOfferBlocksMax || options.user_data.size() > kUserDataBytesMax) {
    return invalid_argument(fmt::format("at most {} blocks and {} bytes of user data a transfer",
                                        kOfferBlocksMax, kUserDataBytesMax));
  }
  return check_ready(options);
}

Status check_reserve(size_t count) {
  if (count > 0 && count <= kOfferBlocksMax) return {};
  return invalid_argument(
      fmt::format("{} blocks to hold at a peer; ask for 1 to {}", count, kOfferBlocksMax));
}

Status check_fetch(const Prompt& prompt, const TransferOptions& options, size_t block_tokens) {
  const size_t whole = prompt.tokens.size() / block_tokens;
  if (whole == 0) {
    return invalid_argument(
        fmt::format("a fetch brings whole blocks of {} tokens, the prompt has {}", block_tokens,
                    prompt.tokens.size()));
  }
  if (prompt.tokens.size() > kOfferTokensMax || whole > kFetchBlocksMax) {
    return invalid_argument(
        fmt::format("at most {} tokens and {} blocks a fetch", kOfferTokensMax, kFetchBlocksMax));
  }
  if (options.mode != TransferMode::kByRequest || !options.ready.reached()) {
    return invalid_argument("a fetch has neither layers nor a fence to wait for");
  }
  return {};
}

}  // namespace mempool
