// SPDX-License-Identifier: Apache-2.0
// Owns the hashing of arrived blocks, and of blocks that leave for another order of bytes.
#include "agent/seal_sums.h"

#include <fmt/format.h>

#include "core/checksum.h"

namespace mempool {
namespace {

uint64_t sum_of(const BlockView& view) {
  return block_checksum(*view.layout, view.segment, view.block);
}

bool lies_inside(const BlockLayout& inner, const BlockLayout& outer) {
  const auto within = [](uint64_t first, uint64_t count, uint64_t of_first, uint64_t of_count) {
    return first >= of_first && first + count <= of_first + of_count;
  };
  return inner.parts == outer.parts && inner.tokens == outer.tokens &&
         inner.vector_bytes == outer.vector_bytes &&
         within(inner.first_layer, inner.layers, outer.first_layer, outer.layers) &&
         within(inner.first_head, inner.heads, outer.first_head, outer.heads);
}

}  // namespace

std::vector<uint32_t> find_bad(const BlockPool& pool, const VerifyBlocks& verify) {
  std::vector<uint32_t> bad;
  for (size_t i = 0; i < verify.blocks.size(); ++i) {
    if (sum_of(pool.view(verify.blocks[i])) != verify.sums[i]) bad.push_back(verify.blocks[i]);
  }
  return bad;
}

Result<std::vector<SealedSum>> resum(const BlockPool& pool, const FinishData& data) {
  std::vector<SealedSum> sums;
  for (const FinishData::Sum& own : data.resum) {
    const BlockView view = pool.view(own.block);
    if (!lies_inside(data.target_layout, *view.layout)) return sums;
    if (sum_of(view) != own.checksum) {
      return corruption(
          fmt::format("block {} no longer has the bytes that were sealed; nothing of the transfer "
                      "is published",
                      own.block));
    }
    sums.push_back({own.position,
                    block_checksum_as(data.target_layout, *view.layout, view.segment, view.block)});
  }
  return sums;
}

}  // namespace mempool
