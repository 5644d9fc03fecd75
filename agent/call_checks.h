// SPDX-License-Identifier: Apache-2.0
// Owns what the calls of Pool check before they ask anybody, inside the agent and beside it.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "core/block_segments.h"
#include "mempool/pool.h"

namespace mempool {

/// Name a content of the pool's shape and model. Errors: kInvalidArgument.
Result<Content> name_content(const ContentSpec& spec, const ContentSpec& pool,
                             const ContentId& model);
/// Errors: kInvalidArgument for a content of another model or shape.
Status check_model(const Content& content, const ContentId& model);
/// Check and hash keys. Errors: kInvalidArgument.
Result<std::vector<ContentId>> hash_keys(std::span<const std::string_view> keys);
/// Give a segment as Pool::segment() does. Requires: nobody changes the table meanwhile.
Result<SegmentView> segment_view(const BlockSegments& segments, size_t segment, uint32_t shard,
                                 ElementType element);
/// Errors: kInvalidArgument for a layer, part or shard that blocks do not have.
Status check_piece(const BlockLayout& layout, uint32_t shards, uint32_t layer, uint32_t part,
                   uint32_t shard);
/// Errors: kInvalidArgument for a peer's name or address that is too long to be one.
Status check_peer_words(std::string_view name, std::string_view address);
/// Errors: kInvalidArgument for a list that is not one block for each whole token block.
Status check_insert(const Prompt& prompt, size_t blocks, size_t block_tokens);
/// Check a call's input against the bounds of one transfer. Errors: kInvalidArgument.
Status check_transfer(const Prompt& prompt, size_t blocks, const TransferOptions& options,
                      size_t block_tokens);
/// The same where blocks go to given places. Those are looked at where they are.
Status check_places(size_t blocks, std::span<const BlockAddress> places,
                    const TransferOptions& options);
/// Errors: kInvalidArgument for a count that no peer holds at once.
Status check_reserve(size_t count);
Status check_fetch(const Prompt& prompt, const TransferOptions& options, size_t block_tokens);

}  // namespace mempool
