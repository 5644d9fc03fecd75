// SPDX-License-Identifier: Apache-2.0
// Owns the hashing of arrived blocks, and of blocks that leave for another order of bytes.
#include "agent/seal_sums.h"

#include <utility>

#include <fmt/format.h>

#include "core/checksum.h"

namespace mempool {
namespace {

constexpr uint64_t kStepBytes = 16 << 20;  // a few milliseconds

uint64_t sum_of(const BlockView& view) {
  return block_checksum(*view.layout, view.segment, view.block);
}

uint64_t sum_as(const BlockLayout& as, const BlockView& view) {
  return block_checksum_as(as, *view.layout, view.segment, view.block);
}

size_t blocks_a_step(const BlockPool& pool) {
  return kStepBytes / pool.block_bytes() + 1;
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

SumCheck::SumCheck(const BlockPool& pool, VerifyFetch verify)
    : SumCheck(pool, std::move(verify.blocks), std::move(verify.sums)) {
  layout_ = verify.holder_layout;
  const bool maps = lies_inside(layout_, pool.segments().front().layout);
  if (!maps) next_ = blocks_.size();
}

bool SumCheck::step() {
  const size_t end = std::min(blocks_.size(), next_ + blocks_a_step(pool_));
  for (; next_ < end; ++next_) {
    if (!is_right(blocks_[next_], sums_[next_])) bad_.push_back(blocks_[next_]);
  }
  return next_ == blocks_.size();
}

bool SumCheck::is_right(uint32_t block, uint64_t sum) const {
  const BlockView view = pool_.view(block);
  return (layout_.layers == 0 ? sum_of(view) : sum_as(layout_, view)) == sum;
}

Result<bool> Resum::step() {
  const size_t end = std::min(data_.resum.size(), next_ + blocks_a_step(pool_));
  for (; next_ < end; ++next_) {
    const FinishData::Sum& own = data_.resum[next_];
    const BlockView view = pool_.view(own.block);
    if (!lies_inside(data_.target_layout, *view.layout)) return true;
    if (sum_of(view) != own.checksum) {
      return corruption(
          fmt::format("block {} no longer has the bytes that were sealed; nothing of the transfer "
                      "is published",
                      own.block));
    }
    sums_.push_back({own.position, sum_as(data_.target_layout, view)});
  }
  return next_ == data_.resum.size();
}

}  // namespace mempool
