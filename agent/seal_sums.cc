// SPDX-License-Identifier: Apache-2.0
// Owns the hashing of arrived blocks, and of blocks that leave for another order of bytes or other
// shards.
#include "agent/seal_sums.h"

#include <utility>

#include <fmt/format.h>

#include "core/checksum.h"

namespace mempool {
namespace {

constexpr uint64_t kStepBytes = 16 << 20;  // a few milliseconds

size_t blocks_a_step(const BlockPool& pool) {
  return kStepBytes / pool.block_bytes() + 1;
}

}  // namespace

SumCheck::SumCheck(const BlockPool& pool, VerifyFetch verify)
    : SumCheck(pool, std::move(verify.blocks), std::move(verify.sums)) {
  if (same_sums(verify.holder_layouts, pool.layouts())) return;
  layouts_ = std::move(verify.holder_layouts);
  if (!maps(layouts_, pool.layouts())) next_ = blocks_.size();
}

bool SumCheck::step() {
  const size_t end = std::min(blocks_.size(), next_ + blocks_a_step(pool_));
  for (; next_ < end; ++next_) {
    if (!is_right(blocks_[next_], sums_[next_])) bad_.push_back(blocks_[next_]);
  }
  return next_ == blocks_.size();
}

bool SumCheck::is_right(uint32_t block, uint64_t sum) const {
  const std::vector<BlockView> shards = pool_.views(block);
  if (layouts_.empty()) return block_checksum(shards) == sum;
  return block_checksum_as(layouts_, shards) == sum && replicas_agree(shards);
}

Result<bool> Resum::step() {
  if (!maps(data_.target_layouts, pool_.layouts())) return true;
  const size_t end = std::min(data_.resum.size(), next_ + blocks_a_step(pool_));
  for (; next_ < end; ++next_) {
    const FinishData::Sum& own = data_.resum[next_];
    const std::vector<BlockView> shards = pool_.views(own.block);
    if (block_checksum(shards) != own.checksum) {
      return corruption(
          fmt::format("block {} no longer has the bytes that were sealed; nothing of the transfer "
                      "is published",
                      own.block));
    }
    sums_.push_back({own.position, block_checksum_as(data_.target_layouts, shards)});
  }
  return next_ == data_.resum.size();
}

}  // namespace mempool
