// SPDX-License-Identifier: Apache-2.0
// Owns the hashing that the state machines ask of their driver, outside the agent's lock. It goes
// on by steps of some megabytes, so that heartbeats and messages have their turn between them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "agent/action.h"
#include "core/block_pool.h"
#include "mempool/status.h"

namespace mempool {

/// Finds those of some blocks whose bytes do not have their sum. Thread: confined; the blocks stay
/// pinned meanwhile.
class SumCheck {
 public:
  SumCheck(const BlockPool& pool, std::vector<uint32_t> blocks, std::vector<uint64_t> sums)
      : pool_(pool), blocks_(std::move(blocks)), sums_(std::move(sums)) {}
  /// Of fetched blocks, hashed as the holder lays them out. Those that do not map have no sum that
  /// could be compared.
  SumCheck(const BlockPool& pool, VerifyFetch verify);

  /// Go on for one step. True when all is done.
  bool step();
  const std::vector<uint32_t>& bad() const { return bad_; }

 private:
  bool is_right(uint32_t block, uint64_t sum) const;

  const BlockPool& pool_;
  std::vector<uint32_t> blocks_;
  std::vector<uint64_t> sums_;
  std::vector<BlockLayout> layouts_;  // by shard of the holder; none: the pool's own
  size_t next_ = 0;
  std::vector<uint32_t> bad_;
};

/// Makes the sums that the target has to find. The source's own are checked on the way, for a fresh
/// sum of wrong bytes would hide them. Thread: as above.
class Resum {
 public:
  Resum(const BlockPool& pool, FinishData data) : pool_(pool), data_(std::move(data)) {}

  /// Go on for one step. True when all is done. Errors: kCorruption.
  Result<bool> step();
  /// None where the layouts do not map: the plan says why.
  std::vector<SealedSum> take() { return std::move(sums_); }
  TransferId transfer() const { return data_.transfer; }

 private:
  const BlockPool& pool_;
  FinishData data_;
  size_t next_ = 0;
  std::vector<SealedSum> sums_;
};

}  // namespace mempool
