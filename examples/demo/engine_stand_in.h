// SPDX-License-Identifier: Apache-2.0
// Owns what the demo has in place of an inference engine: it fills blocks with KV and checks it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "examples/demo/kv_memory.h"
#include "examples/demo/messages.h"
#include "mempool/agent.h"

namespace mempool::demo {

/// The engine beside one agent. Thread: confined.
class EngineStandIn {
 public:
  /// Start the agent that `setup` describes. Errors: those of Agent::start(); kUnavailable says
  /// why the transport cannot open.
  static Result<std::unique_ptr<EngineStandIn>> start(const Setup& setup);

  Agent& agent() { return *agent_; }
  KvMemory& memory() { return *memory_; }
  const Content& content() const { return content_; }
  size_t whole_blocks(size_t tokens) const { return tokens / agent_->layout().tokens; }
  size_t all_blocks(size_t tokens) const {
    return whole_blocks(tokens + agent_->layout().tokens - 1);
  }

  /// Hash every prefix of a prompt, as fill_layer() needs it.
  std::vector<uint64_t> prefixes(std::span<const TokenId> tokens) const;
  /// Compute one layer of a prompt's KV into `blocks`, which hold all of it; the first `first` are
  /// there already. Errors: kStale.
  Status fill_layer(std::span<const uint64_t> prefixes, std::span<const BlockAddress> blocks,
                    size_t first, uint32_t layer);
  /// Compare every byte of a prompt's KV; gives how many. Errors: kCorruption, naming the block,
  /// the layer, the part, the token and the head that differ; kStale.
  Result<uint64_t> check(std::span<const TokenId> tokens, std::span<const BlockAddress> blocks);
  /// Give the memory back, and look whether the agent has lost any. Errors: those of its audit;
  /// kDeadlineExceeded when blocks are still in use.
  Status end();

 private:
  EngineStandIn() = default;

  std::unique_ptr<KvMemory> memory_;  // goes after the agent, which may have adopted it
  std::unique_ptr<Agent> agent_;
  Content content_;
};

}  // namespace mempool::demo
