// SPDX-License-Identifier: Apache-2.0
// Owns two agents that are opened through the C API, and the KV that tests put into their blocks.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "mempool/mempool.h"

namespace mempool::testing {

using ::testing::AssertionFailure;
using ::testing::AssertionResult;
using ::testing::AssertionSuccess;

inline constexpr uint32_t kTokens = 4;  // of a block
inline constexpr uint64_t kPatience = 30000;

inline AssertionResult ok(mempool_status status) {
  if (status == MEMPOOL_OK) return AssertionSuccess();
  return AssertionFailure() << mempool_status_name(status) << ": " << mempool_last_error();
}

/// The call ended like this, and its message has these words.
inline AssertionResult refused(mempool_status status, mempool_status expected,
                               const std::string& words) {
  const std::string message = mempool_last_error();
  if (status == expected && message.find(words) != std::string::npos) return AssertionSuccess();
  return AssertionFailure() << mempool_status_name(status) << ": " << message;
}

struct Closer {
  void operator()(mempool_pool* pool) const { mempool_close(pool); }
  void operator()(mempool_transfer* transfer) const { mempool_free_transfer(transfer); }
  void operator()(mempool_arrival* arrival) const { mempool_free_arrival(arrival); }
  void operator()(mempool_fence* fence) const { mempool_free_fence(fence); }
};
using PoolHandle = std::unique_ptr<mempool_pool, Closer>;
using TransferHandle = std::unique_ptr<mempool_transfer, Closer>;
using ArrivalHandle = std::unique_ptr<mempool_arrival, Closer>;
using FenceHandle = std::unique_ptr<mempool_fence, Closer>;

inline PoolHandle open_pool(const std::string& name, const std::vector<std::string>& more = {}) {
  std::vector<std::string> settings = {
      "agent.name=" + name,        "admin.listen=",      "pool.blocks=32",
      "content.model=tiny",        "content.layers=3",   "content.kv_heads=2",
      "content.head_size=8",       "verify.mode=always", "content.tokens_per_block=4",
      "timeouts.retransmit_ms=50", "log.level=warning"};
  settings.insert(settings.end(), more.begin(), more.end());
  std::vector<const char*> words;
  for (const std::string& setting : settings) words.push_back(setting.c_str());
  mempool_pool* pool = nullptr;
  EXPECT_TRUE(ok(mempool_open(nullptr, words.data(), words.size(), &pool)));
  return PoolHandle(pool);
}

inline mempool_content_spec c_spec() {
  mempool_content_spec spec{};
  spec.size = sizeof spec;
  spec.model = "tiny";
  spec.layers = 3;
  spec.kv_heads = 2;
  spec.head_size = 8;
  spec.tokens_per_block = kTokens;
  return spec;
}

/// Agents "prefill" and "decode", which know each other, and a prompt. Thread: confined.
class CApi : public ::testing::Test {
 protected:
  CApi() {
    const mempool_content_spec spec = c_spec();
    EXPECT_TRUE(ok(mempool_name_content(prefill(), &spec, &prompt_.content)));
    prompt_.tokens = tokens_.data();
    prompt_.token_count = tokens_.size();
    EXPECT_TRUE(ok(mempool_add_peer(prefill(), "decode", mempool_listen_address(decode_.get()))));
    EXPECT_TRUE(ok(mempool_add_peer(decode(), "prefill", mempool_listen_address(prefill_.get()))));
  }

  mempool_pool* prefill() const { return prefill_.get(); }
  mempool_pool* decode() const { return decode_.get(); }

  /// Blocks for all tokens; each byte of a block says which one it is.
  std::vector<mempool_block> filled_blocks() {
    std::vector<mempool_block> blocks((tokens_.size() + kTokens - 1) / kTokens);
    EXPECT_TRUE(ok(mempool_alloc(prefill(), blocks.size(), MEMPOOL_HOST, blocks.data())));
    for (uint32_t layer = 0; layer < 3; ++layer) fill(blocks, layer);
    return blocks;
  }
  void fill(const std::vector<mempool_block>& blocks, uint32_t layer) {
    for (size_t i = 0; i < blocks.size(); ++i) {
      for (uint32_t part = 0; part < 2; ++part) {
        void* piece = nullptr;
        ASSERT_TRUE(ok(mempool_piece(prefill(), &blocks[i], layer, part, 0, &piece)));
        std::memset(piece, static_cast<int>(100 * layer + 50 * part + i), piece_bytes());
      }
    }
  }
  bool holds(mempool_pool* pool, const mempool_block& block, size_t position) {
    for (uint32_t layer = 0; layer < 3; ++layer) {
      for (uint32_t part = 0; part < 2; ++part) {
        void* piece = nullptr;
        if (!ok(mempool_piece(pool, &block, layer, part, 0, &piece))) return false;
        const std::vector<unsigned char> expected(
            piece_bytes(), static_cast<unsigned char>(100 * layer + 50 * part + position));
        if (std::memcmp(piece, expected.data(), expected.size()) != 0) return false;
      }
    }
    return true;
  }
  size_t piece_bytes() const {
    mempool_layout layout{};
    layout.size = sizeof layout;
    EXPECT_TRUE(ok(mempool_get_layout(prefill(), 0, &layout)));
    return layout.piece_bytes;
  }
  TransferHandle begin(const std::vector<mempool_block>& blocks,
                       const mempool_transfer_options* options = nullptr) {
    mempool_transfer* transfer = nullptr;
    EXPECT_TRUE(ok(mempool_transfer_with_insert(prefill(), "decode", &prompt_, blocks.data(),
                                                blocks.size(), options, &transfer)));
    return TransferHandle(transfer);
  }
  ArrivalHandle receive() {
    mempool_arrival* arrival = nullptr;
    EXPECT_TRUE(ok(mempool_receive(decode(), kPatience, &arrival)));
    return ArrivalHandle(arrival);
  }
  static mempool_arrival_view view(const ArrivalHandle& arrival) {
    mempool_arrival_view result{};
    result.size = sizeof result;
    EXPECT_TRUE(ok(mempool_view_arrival(arrival.get(), &result)));
    return result;
  }
  size_t matched(mempool_pool* pool) {
    std::vector<mempool_block> blocks(8);
    size_t count = 0;
    EXPECT_TRUE(ok(mempool_match(pool, &prompt_, blocks.data(), blocks.size(), &count)));
    EXPECT_TRUE(ok(mempool_unpin(pool, blocks.data(), count)));
    return count;
  }

  PoolHandle prefill_ = open_pool("prefill");
  PoolHandle decode_ = open_pool("decode");
  const std::vector<uint32_t> tokens_ = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3};  // two blocks and a half
  mempool_prompt prompt_{};
};

}  // namespace mempool::testing
