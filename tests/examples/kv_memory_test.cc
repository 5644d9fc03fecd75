// SPDX-License-Identifier: Apache-2.0
// Owns the tests of an engine's own tensors: where their blocks lie, and which are used anew.
#include "examples/demo/kv_memory.h"

#include <memory>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

namespace mempool::demo {
namespace {

constexpr uint32_t kBlocks = 4;
constexpr uint32_t kBlockTokens = 4;

class TensorMemory : public testing::TestWithParam<BlockForm> {
 protected:
  TensorMemory() {
    AgentOptions options;
    options.name = "engine";
    options.content = {.model = "tiny", .layers = 3, .kv_heads = 1, .head_size = 8};
    options.content.tokens_per_block = kBlockTokens;
    options.placement.form = GetParam();
    options.segment_blocks = {1};
    agent_ = Agent::start(options).value();
    content_ = agent_->content(options.content).value();
    memory_ = tensor_memory(*agent_, options.content, options.placement, kBlocks).value();
  }
  ~TensorMemory() override {
    EXPECT_EQ(memory_->end().to_string(), "OK");
    EXPECT_EQ(agent_->status().audit.to_string(), "OK");
  }

  static std::vector<TokenId> tokens_of(size_t blocks, TokenId first) {
    std::vector<TokenId> tokens(blocks * kBlockTokens);
    std::iota(tokens.begin(), tokens.end(), first);
    return tokens;
  }
  /// Serve a prompt: what is not held is taken, and all of it is inserted.
  void serve(const std::vector<TokenId>& tokens) {
    const Prompt prompt{content_, tokens};
    std::vector<BlockAddress> blocks = agent_->match(prompt).blocks;
    const Status extended = memory_->extend(blocks, tokens.size() / kBlockTokens);
    ASSERT_TRUE(extended.ok()) << extended.to_string();
    ASSERT_TRUE(agent_->insert(prompt, blocks).ok());
    ASSERT_TRUE(memory_->let_go(blocks).ok());
  }
  size_t held(const std::vector<TokenId>& tokens) {
    const MatchResult match = agent_->match({content_, tokens});
    EXPECT_TRUE(agent_->unpin(match.blocks).ok());
    return match.blocks.size();
  }

  std::unique_ptr<KvMemory> memory_;
  std::unique_ptr<Agent> agent_;
  Content content_;
};

TEST_P(TensorMemory, a_block_lies_where_its_agent_has_it) {
  std::vector<BlockAddress> blocks;
  ASSERT_TRUE(memory_->extend(blocks, kBlocks).ok());
  for (const BlockAddress& block : blocks) {
    for (uint32_t layer = 0; layer < 3; ++layer) {
      for (uint32_t part = 0; part < 2; ++part) {
        EXPECT_EQ(memory_->piece(block, layer, part).value(),
                  agent_->piece(block, layer, part)->data());
      }
    }
  }
  EXPECT_EQ(memory_->extend(blocks, kBlocks + 1).code(), StatusCode::kResourceExhausted);
  ASSERT_TRUE(memory_->let_go(blocks).ok());
}

TEST_P(TensorMemory, what_was_used_longest_ago_is_used_anew_and_leaves_the_index) {
  const std::vector<TokenId> first = tokens_of(2, 0);
  const std::vector<TokenId> second = tokens_of(2, 100);
  serve(first);
  serve(second);
  EXPECT_EQ(held(first) + held(second), kBlocks);
  serve(tokens_of(3, 0));  // begins as the first, so the second gives a block
  EXPECT_EQ(held(tokens_of(3, 0)), 3u);
  EXPECT_EQ(held(second), 1u) << "its last block has gone first";
  serve(tokens_of(4, 200));
  EXPECT_EQ(held(first) + held(second), 0u);
}

INSTANTIATE_TEST_SUITE_P(Forms, TensorMemory,
                         testing::Values(BlockForm::kDiscrete, BlockForm::kAggregated),
                         [](const auto& form) {
                           return form.param == BlockForm::kDiscrete ? "discrete" : "aggregated";
                         });

}  // namespace
}  // namespace mempool::demo
