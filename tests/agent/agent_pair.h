// SPDX-License-Identifier: Apache-2.0
// Owns two agents in one process and the KV that tests put into their blocks.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "mempool/agent.h"

namespace mempool::testing {

inline ContentSpec small_spec() {
  ContentSpec spec;
  spec.model = "tiny";
  spec.layers = 3;
  spec.kv_heads = 2;
  spec.head_size = 8;
  spec.tokens_per_block = 4;
  return spec;
}

inline AgentOptions small_options(const std::string& name, const std::string& transport = "tcp") {
  AgentOptions options;
  options.name = name;
  options.content = small_spec();
  options.segment_blocks = {24, 40};
  options.transports = {transport};
  if (transport == "ucx") {  // needs no device over tcp
    options.transport_options = {{"ucx.tls", "tcp"},
                                 {"ucx.devices", "lo"},
                                 {"ucx.trust_peers", "1"},
                                 {"ucx.self_test", "0"}};
  }
  options.verify = "always";
  options.heartbeat = std::chrono::milliseconds(50);
  options.peer_timeout = std::chrono::milliseconds(5000);
  options.retransmit = std::chrono::milliseconds(50);
  options.fence_timeout = std::chrono::milliseconds(500);
  return options;
}

/// The transports of agents on one host, as far as they are built.
inline std::vector<std::string> all_transports() {
  std::vector<std::string> names = {"local", "shm", "tcp"};
#ifdef MEMPOOL_HAS_UCX
  names.emplace_back("ucx");
#endif
  return names;
}

inline std::unique_ptr<Agent> start_agent(const AgentOptions& options) {
  auto agent = Agent::start(options);
  EXPECT_TRUE(agent.ok()) << agent.status().to_string();
  return agent.ok() ? std::move(*agent) : nullptr;
}

/// Look until it is so; gives whether it came to be in half a minute, which only a defect takes.
inline bool wait_until(const std::function<bool()>& is_so) {
  const auto given_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!is_so()) {
    if (std::chrono::steady_clock::now() > given_up) return false;
    std::this_thread::yield();
  }
  return true;
}

/// 0, 1, 2... from `first`.
inline std::vector<TokenId> make_tokens(size_t count, TokenId first = 0) {
  std::vector<TokenId> tokens(count);
  for (size_t i = 0; i < count; ++i) tokens[i] = first + static_cast<TokenId>(i);
  return tokens;
}

/// The byte that position `at` of a piece has, for the block that begins with `token`.
inline std::byte kv_byte(TokenId token, uint32_t layer, uint32_t part, size_t at) {
  return static_cast<std::byte>(token * 31 + layer * 7 + part * 3 + at * 5 + 1);
}

inline void fill(Pool& agent, const BlockAddress& block, TokenId token) {
  for (uint32_t layer = 0; layer < agent.layout().layers; ++layer) {
    for (uint32_t part = 0; part < agent.layout().parts; ++part) {
      auto piece = agent.piece(block, layer, part);
      ASSERT_TRUE(piece.ok()) << piece.status().to_string();
      for (size_t at = 0; at < piece->size(); ++at) {
        (*piece)[at] = kv_byte(token, layer, part, at);
      }
    }
  }
}

inline bool holds(Pool& agent, const BlockAddress& block, TokenId token) {
  for (uint32_t layer = 0; layer < agent.layout().layers; ++layer) {
    for (uint32_t part = 0; part < agent.layout().parts; ++part) {
      auto piece = agent.piece(block, layer, part);
      if (!piece.ok()) return false;
      for (size_t at = 0; at < piece->size(); ++at) {
        if ((*piece)[at] != kv_byte(token, layer, part, at)) return false;
      }
    }
  }
  return true;
}

/// Whether each block has the KV that filled_blocks() gives it.
inline bool hold(Agent& agent, std::span<const BlockAddress> blocks,
                 std::span<const TokenId> tokens) {
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (!holds(agent, blocks[i], tokens[i * small_spec().tokens_per_block])) return false;
  }
  return true;
}

/// Blocks for all tokens, filled by their first token.
inline std::vector<BlockAddress> filled_blocks(Pool& agent, std::span<const TokenId> tokens) {
  const size_t block_tokens = small_spec().tokens_per_block;
  auto blocks = agent.alloc((tokens.size() + block_tokens - 1) / block_tokens);
  EXPECT_TRUE(blocks.ok()) << blocks.status().to_string();
  if (!blocks.ok()) return {};
  for (size_t i = 0; i < blocks->size(); ++i) fill(agent, (*blocks)[i], tokens[i * block_tokens]);
  return *blocks;
}

}  // namespace mempool::testing
