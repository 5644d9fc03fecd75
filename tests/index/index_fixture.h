// SPDX-License-Identifier: Apache-2.0
// Owns the small pool and index that the index's tests share: two tokens a block, two contents.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/block_pool.h"
#include "index/local_index.h"

namespace mempool {

using Tokens = std::vector<TokenId>;

inline constexpr uint32_t kTokensPerBlock = 2;
inline constexpr uint32_t kPoolBlocks = 24;
inline constexpr SessionId kPeer = 7;

inline Content tenant_content(const std::string& salt, const std::string& model = "one") {
  return make_content({.model = model,
                       .layers = 1,
                       .kv_heads = 1,
                       .head_size = 2,
                       .tokens_per_block = kTokensPerBlock,
                       .tenant_salt = salt})
      .value();
}

inline Content test_content(const std::string& model) {
  return tenant_content("", model);
}

inline std::unique_ptr<BlockPool> test_pool(uint32_t blocks = kPoolBlocks) {
  PoolOptions options;
  options.shape = {.layers = 1, .kv_heads = 1, .head_size = 2, .tokens_per_block = kTokensPerBlock};
  options.segment_blocks = {blocks};
  return BlockPool::create(options, /*incarnation=*/0x1f2e).value();
}

inline std::unique_ptr<EvictionPolicy> lru() {
  return make_eviction_policy("lru").value();
}

/// Gives tests a pool with an index over it, and audits both at the end of each. Thread: confined.
class IndexTest : public testing::Test {
 protected:
  void TearDown() override {
    EXPECT_EQ(index_.audit().to_string(), "OK");
    EXPECT_TRUE(pool_->audit().ok()) << pool_->audit().status().to_string();
  }

  Prompt prompt(const Tokens& tokens) const { return {content_, tokens}; }
  std::vector<BlockAddress> alloc(size_t count, SessionId session = kCallerSession,
                                  BlockState state = BlockState::kWriting) {
    std::vector<BlockAddress> out;
    const Status status = pool_->alloc(session, count, state, out);
    EXPECT_TRUE(status.ok()) << status.to_string();
    return out;
  }
  void unpin(const std::vector<BlockAddress>& blocks, SessionId session = kCallerSession) {
    const Status status = pool_->unpin(session, blocks);
    EXPECT_TRUE(status.ok()) << status.to_string();
  }
  /// Insert new blocks for a whole prompt, keep their pins, and give them.
  std::vector<BlockAddress> insert_pinned(const Tokens& tokens) {
    const auto blocks = alloc(tokens.size() / kTokensPerBlock);
    const auto outcome = index_.insert(kCallerSession, prompt(tokens), blocks);
    EXPECT_TRUE(outcome.ok()) << outcome.status().to_string();
    return blocks;
  }
  /// Insert what the index lacks of a prompt, and pin nothing.
  void insert(const Tokens& tokens) {
    std::vector<BlockAddress> blocks;
    index_.match(kCallerSession, prompt(tokens), blocks);
    const auto rest = alloc(tokens.size() / kTokensPerBlock - blocks.size());
    blocks.insert(blocks.end(), rest.begin(), rest.end());
    const auto outcome = index_.insert(kCallerSession, prompt(tokens), blocks);
    EXPECT_TRUE(outcome.ok()) << outcome.status().to_string();
    unpin(blocks);
  }
  std::vector<BlockAddress> match(const Tokens& tokens, SessionId session = kCallerSession) {
    std::vector<BlockAddress> out;
    const size_t matched = index_.match(session, prompt(tokens), out);
    EXPECT_EQ(matched, out.size() * kTokensPerBlock);
    return out;
  }
  /// Use a prompt's blocks without keeping a pin.
  void touch(const Tokens& tokens) { unpin(match(tokens)); }
  size_t held_tokens(const Tokens& tokens) const { return index_.peek(prompt(tokens)); }

  Content content_ = test_content("one");
  Content other_content_ = test_content("other");
  std::unique_ptr<BlockPool> pool_ = test_pool();
  LocalIndex index_{*pool_, lru()};
};

}  // namespace mempool
