// SPDX-License-Identifier: Apache-2.0
// Owns what the state machines' tests stand on: a tiny pool, prompts, and a look at the actions.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <numeric>
#include <variant>
#include <vector>

#include "agent/action.h"
#include "agent/message.h"
#include "core/block_pool.h"
#include "core/clock.h"
#include "mempool/content.h"

namespace mempool {

/// Two layers of keys and values, 4 tokens a block, 32 bytes.
inline ContentSpec tiny_spec() {
  ContentSpec spec;
  spec.model = "tiny";
  spec.element = ElementType::kInt8;
  spec.layers = 2;
  spec.kv_heads = 1;
  spec.head_size = 2;
  spec.tokens_per_block = 4;
  return spec;
}

inline Content tiny_content() {
  return make_content(tiny_spec()).value();
}

inline std::unique_ptr<BlockPool> tiny_pool(uint64_t incarnation,
                                            std::vector<uint32_t> segment_blocks = {8},
                                            BlockForm form = BlockForm::kDiscrete) {
  PoolOptions options;
  options.shape = tiny_spec();
  options.placement.form = form;
  options.segment_blocks = std::move(segment_blocks);
  return BlockPool::create(options, incarnation).value();
}

/// The tokens 1, 2, 3... of a prompt.
inline std::vector<TokenId> tokens_up_to(TokenId count) {
  std::vector<TokenId> tokens(count);
  std::iota(tokens.begin(), tokens.end(), TokenId{1});
  return tokens;
}

inline TimePoint at_ms(int64_t milliseconds) {
  return TimePoint(std::chrono::milliseconds(milliseconds));
}

/// The actions of one kind, in their order.
template <typename Kind>
std::vector<Kind> actions_of(const std::vector<Action>& actions) {
  std::vector<Kind> found;
  for (const Action& action : actions) {
    if (const auto* one = std::get_if<Kind>(&action)) found.push_back(*one);
  }
  return found;
}

/// The messages of one kind that the actions send, in their order.
template <typename Kind>
std::vector<Kind> messages_of(const std::vector<Action>& actions) {
  std::vector<Kind> found;
  for (const SendMessage& send : actions_of<SendMessage>(actions)) {
    if (const auto* one = std::get_if<Kind>(&send.message)) found.push_back(*one);
  }
  return found;
}

}  // namespace mempool
