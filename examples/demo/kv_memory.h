// SPDX-License-Identifier: Apache-2.0
// Owns where a role's engine has its KV: in blocks of the pool, or in tensors of its own that its
// agent adopts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "mempool/agent.h"

namespace mempool::demo {

/// Thread: confined.
class KvMemory {
 public:
  virtual ~KvMemory() = default;
  /// Add blocks for the engine to fill until there are `count`; those that it has in `blocks`, and
  /// no others, are in use. Errors: kResourceExhausted.
  virtual Status extend(std::vector<BlockAddress>& blocks, size_t count) = 0;
  /// Unpin blocks, of which some are perhaps inserted.
  virtual Status let_go(std::span<const BlockAddress> blocks) = 0;
  /// Where a block's piece lies. Requires: the engine has the block. Errors: kStale.
  virtual Result<std::byte*> piece(const BlockAddress& block, uint32_t layer, uint32_t part) = 0;
  /// Take the memory back, when all of it is let go of. Errors: kDeadlineExceeded, naming what is
  /// in use.
  virtual Status end() = 0;
};

/// Have it in the agent's pool.
std::unique_ptr<KvMemory> pool_memory(Agent& agent);

/// Have `blocks` blocks in tensors of one sealed memfd, laid out as a pool of that placement has
/// them: by layer and part, as vLLM does it, or block after block. What is inserted there stays in
/// place until its block is the least recently used one and is needed anew. It outlives the agent,
/// unless end() was ok. Errors: kResourceExhausted.
Result<std::unique_ptr<KvMemory>> tensor_memory(Agent& agent, const ContentSpec& spec,
                                                const Placement& placement, uint32_t blocks);

}  // namespace mempool::demo
