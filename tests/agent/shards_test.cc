// SPDX-License-Identifier: Apache-2.0
// Owns the checks of instances with several shards: every byte of every head, over every transport.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "mempool/agent.h"
#include "mempool/attach.h"
#include "tests/agent/agent_pair.h"
#include "tests/agent/welcome_proxy.h"

namespace mempool {
namespace {

using namespace std::chrono_literals;
using testing::make_tokens;
using testing::small_options;
using testing::start_agent;
using testing::wait_until;

constexpr uint32_t kHeads = 4;
constexpr uint32_t kBlockTokens = 4;

ContentSpec spec_of(bool mla) {
  ContentSpec spec;
  spec.model = mla ? "latent" : "heads";
  spec.layers = 3;
  spec.kv_heads = mla ? 1 : kHeads;
  spec.head_size = mla ? 0 : 6;
  spec.mla_rank = mla ? 10 : 0;
  spec.tokens_per_block = kBlockTokens;
  return spec;
}

/// Call `visit(byte, what it must be)` for each byte that one layer of a shard's part of a block
/// holds of these tokens.
void for_each_byte(Pool& pool, const BlockAddress& block, std::span<const TokenId> tokens,
                   uint32_t layer, uint32_t shard,
                   const std::function<void(std::byte&, std::byte)>& visit) {
  const BlockLayout& layout = pool.layout(0, shard);
  for (uint32_t part = 0; part < layout.parts; ++part) {
    const auto piece = pool.piece(block, layer, part, shard);
    ASSERT_TRUE(piece.ok()) << piece.status().to_string();
    for (uint32_t token = 0; token < tokens.size(); ++token) {
      for (uint32_t head = 0; head < layout.heads; ++head) {
        for (uint64_t i = 0; i < layout.vector_bytes; ++i) {
          const auto byte = static_cast<std::byte>(tokens[token] * 31 + layer * 7 + part * 3 +
                                                   (layout.first_head + head) * 53 + i * 5 + 1);
          visit((*piece)[layout.vector_offset(token, head) + i], byte);
        }
      }
    }
  }
}

/// The tokens of the block at `position`, as many as the last one has.
std::span<const TokenId> tokens_of(std::span<const TokenId> tokens, size_t position) {
  const size_t first = position * kBlockTokens;
  return tokens.subspan(first, std::min<size_t>(kBlockTokens, tokens.size() - first));
}

/// What the ranks do in one layer's time.
void make_layer(Pool& pool, std::span<const BlockAddress> blocks, std::span<const TokenId> tokens,
                uint32_t layer) {
  for (size_t i = 0; i < blocks.size(); ++i) {
    for (uint32_t shard = 0; shard < pool.shards(); ++shard) {
      for_each_byte(pool, blocks[i], tokens_of(tokens, i), layer, shard,
                    [](std::byte& at, std::byte byte) { at = byte; });
    }
  }
}

/// What one rank does in all of them.
void make_kv(Pool& pool, std::span<const BlockAddress> blocks, std::span<const TokenId> tokens,
             uint32_t shard) {
  for (size_t i = 0; i < blocks.size(); ++i) {
    for (uint32_t layer = 0; layer < pool.layout().layers; ++layer) {
      for_each_byte(pool, blocks[i], tokens_of(tokens, i), layer, shard,
                    [](std::byte& at, std::byte byte) { at = byte; });
    }
  }
}

void expect_kv(Pool& pool, std::span<const BlockAddress> blocks, std::span<const TokenId> tokens) {
  for (size_t i = 0; i < blocks.size(); ++i) {
    for (uint32_t shard = 0; shard < pool.shards(); ++shard) {
      for (uint32_t layer = 0; layer < pool.layout().layers; ++layer) {
        size_t wrong = 0;
        for_each_byte(pool, blocks[i], tokens_of(tokens, i), layer, shard,
                      [&](std::byte& at, std::byte byte) { wrong += at != byte; });
        EXPECT_EQ(wrong, 0u) << "block " << i << ", shard " << shard << ", layer " << layer;
      }
    }
  }
}

/// Blocks in both segments, so that a list crosses from one to the other, in every shard.
std::vector<BlockAddress> made_blocks(Agent& agent, std::span<const TokenId> tokens) {
  const auto before = agent.alloc(21);  // of the 24 of the first segment
  EXPECT_TRUE(before.ok());
  const auto blocks = agent.alloc((tokens.size() + kBlockTokens - 1) / kBlockTokens);
  EXPECT_TRUE(blocks.ok());
  EXPECT_TRUE(agent.free(*before).ok());
  for (uint32_t shard = 0; shard < agent.shards(); ++shard) make_kv(agent, *blocks, tokens, shard);
  return *blocks;
}

/// Flip a bit of the last head, wherever it lies.
void corrupt(Agent& agent, const BlockAddress& block) {
  const uint32_t last = agent.shards() - 1;
  for (uint32_t shard = 0; shard <= last; ++shard) {
    if (agent.layout(0, shard).first_head != agent.layout(0, last).first_head) continue;
    agent.piece(block, 1, 0, shard)->back() ^= std::byte{4};
  }
}

struct ShardCase {
  std::string transport;
  uint32_t source;
  uint32_t target;
  bool mla;
  bool other_placement;  // at the target: aggregated, head before token
};

class ShardsTest : public ::testing::TestWithParam<ShardCase> {
 protected:
  ShardsTest() {
    AgentOptions source = small_options("prefill", GetParam().transport);
    source.content = spec_of(GetParam().mla);
    source.shards = GetParam().source;
    source_ = start_agent(source);
    AgentOptions target = small_options("decode", GetParam().transport);
    target.content = source.content;
    target.shards = GetParam().target;
    if (GetParam().other_placement) {
      target.placement = {.form = BlockForm::kAggregated, .order = TokenOrder::kHeadToken};
    }
    target_ = start_agent(target);
    source_->add_peer("decode", target_->status().listen);
    target_->add_peer("prefill", source_->status().listen);
    content_ = *make_content(source.content);
  }
  ~ShardsTest() override {
    EXPECT_TRUE(source_->status().audit.ok());
    EXPECT_TRUE(target_->status().audit.ok());
  }
  Status fetch(TransferReport& report) {
    const auto transfer = target_->fetch("prefill", {content_, tokens_});
    if (!transfer.ok()) return transfer.status();
    const Status status = transfer->wait();
    report = transfer->report();
    return status;
  }

  const std::vector<TokenId> tokens_ = make_tokens(22);  // five blocks and a tail of two tokens
  std::unique_ptr<Agent> source_;
  std::unique_ptr<Agent> target_;
  Content content_;
};

TEST_P(ShardsTest, every_byte_of_every_head_arrives_under_one_commit) {
  const auto blocks = made_blocks(*source_, tokens_);
  ASSERT_TRUE(target_->alloc(21).ok());
  const auto transfer = source_->transfer_with_insert("decode", {content_, tokens_}, blocks);
  ASSERT_TRUE(transfer.ok()) << transfer.status().to_string();
  const Status sent = transfer->wait();
  ASSERT_TRUE(sent.ok()) << sent.to_string();
  EXPECT_EQ(transfer->report().bytes, 6 * target_->status().block_bytes);
  const auto arrival = target_->receive(5s);
  ASSERT_TRUE(arrival.ok()) << arrival.status().to_string();
  EXPECT_EQ(arrival->blocks, transfer->report().serving);
  ASSERT_EQ(arrival->blocks.size(), 6u);
  expect_kv(*target_, arrival->blocks, tokens_);
  EXPECT_EQ(target_->match({content_, tokens_}).tokens, 20u);
  std::vector<std::byte> out(target_->status().block_bytes);
  EXPECT_TRUE(target_->read(arrival->blocks[4], out).ok()) << "the sum is that of the shards here";
  EXPECT_TRUE(source_->free(blocks).ok());
}

TEST_P(ShardsTest, layers_go_as_the_ranks_make_them) {
  const auto tokens = make_tokens(20);
  const auto blocks = *source_->alloc(5);
  auto transfer = source_->transfer_with_insert("decode", {content_, tokens}, blocks,
                                                {.mode = TransferMode::kByLayer});
  ASSERT_TRUE(transfer.ok()) << transfer.status().to_string();
  for (uint32_t layer = 0; layer < source_->layout().layers; ++layer) {
    make_layer(*source_, blocks, tokens, layer);
    ASSERT_TRUE(transfer->send_layers(layer, 1).ok());
  }
  ASSERT_TRUE(transfer->commit().ok());
  const Status sent = transfer->wait();
  ASSERT_TRUE(sent.ok()) << sent.to_string();
  expect_kv(*target_, transfer->report().serving, tokens);
}

TEST_P(ShardsTest, what_another_holds_is_fetched_into_every_shard) {
  const auto blocks = made_blocks(*source_, tokens_);
  ASSERT_TRUE(source_->insert({content_, tokens_}, std::span(blocks).first(5)).ok());
  TransferReport report;
  const Status fetched = fetch(report);
  ASSERT_TRUE(fetched.ok()) << fetched.to_string();
  EXPECT_EQ(report.bytes, 5 * target_->status().block_bytes);
  ASSERT_EQ(report.serving.size(), 5u);
  expect_kv(*target_, report.serving, tokens_);
}

TEST_P(ShardsTest, a_wrong_byte_in_the_last_shard_is_found_on_the_way) {
  const auto blocks = made_blocks(*source_, tokens_);
  ASSERT_TRUE(source_->insert({content_, tokens_}, std::span(blocks).first(5)).ok());
  corrupt(*source_, blocks[3]);
  const auto transfer = source_->transfer_with_insert("decode", {content_, tokens_}, blocks);
  ASSERT_TRUE(transfer.ok());
  EXPECT_EQ(transfer->wait().code(), StatusCode::kCorruption);
  EXPECT_EQ(target_->match({content_, tokens_}).tokens, 0u);
  EXPECT_EQ(source_->match({content_, tokens_}).tokens, 12u) << "it serves nobody again";
  EXPECT_EQ(source_->status().quarantine.at("corruption"), 1u);
}

TEST_P(ShardsTest, a_wrong_byte_in_the_last_shard_is_found_by_who_fetches_it) {
  const auto blocks = made_blocks(*source_, tokens_);
  ASSERT_TRUE(source_->insert({content_, tokens_}, std::span(blocks).first(5)).ok());
  corrupt(*source_, blocks[3]);
  TransferReport report;
  EXPECT_EQ(fetch(report).code(), StatusCode::kCorruption);
  EXPECT_EQ(target_->match({content_, tokens_}).tokens, 0u);
  EXPECT_EQ(target_->status().blocks.at("free"), target_->status().total);
}

TEST_P(ShardsTest, a_transfer_taken_back_leaves_nothing_in_any_shard) {
  const auto blocks = made_blocks(*source_, tokens_);
  auto transfer = source_->transfer_with_insert("decode", {content_, tokens_}, blocks,
                                                {.mode = TransferMode::kByLayer});
  ASSERT_TRUE(transfer.ok());
  ASSERT_TRUE(transfer->send_layers(0, 2).ok());
  transfer->cancel();
  EXPECT_EQ(transfer->wait().code(), StatusCode::kCancelled);
  EXPECT_TRUE(source_->free(blocks).ok());
  EXPECT_TRUE(wait_until(
      [this] { return target_->status().blocks.at("free") == target_->status().total; }));
}

std::vector<ShardCase> all_cases() {
  struct Counts {
    uint32_t source;
    uint32_t target;
    bool mla;
  };
  std::vector<ShardCase> cases;
  for (const char* transport : {"local", "shm", "tcp"}) {
    for (const Counts& counts : std::initializer_list<Counts>{{2, 4, false},
                                                              {4, 2, false},
                                                              {1, 2, false},
                                                              {2, 2, false},
                                                              {2, 8, false},
                                                              {8, 4, false},
                                                              {4, 4, true},
                                                              {4, 2, true}}) {
      for (const bool other : {false, true}) {
        cases.push_back({transport, counts.source, counts.target, counts.mla, other});
      }
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Shards, ShardsTest, ::testing::ValuesIn(all_cases()),
                         [](const auto& info) {
                           const ShardCase& each = info.param;
                           return each.transport + (each.mla ? "_mla_" : "_") +
                                  std::to_string(each.source) + "_to_" +
                                  std::to_string(each.target) +
                                  (each.other_placement ? "_placed_otherwise" : "");
                         });

// ---- one instance ------------------------------------------------------------------------------

AgentOptions sharded_options(uint32_t shards) {
  AgentOptions options = small_options("agent");
  options.content = spec_of(false);
  options.shards = shards;
  return options;
}

TEST(ShardedAgent, tells_its_shards_and_what_each_holds) {
  const auto agent = start_agent(sharded_options(4));
  EXPECT_EQ(agent->shards(), 4u);
  EXPECT_EQ(agent->status().shards, 4u);
  EXPECT_EQ(agent->status().block_bytes, 4 * agent->layout().block_bytes);
  for (uint32_t shard = 0; shard < 4; ++shard) {
    EXPECT_EQ(agent->layout(1, shard).first_head, shard);
    EXPECT_EQ(agent->layout(1, shard).heads, 1u);
  }
  const auto blocks = agent->alloc(1);
  EXPECT_TRUE(agent->piece(blocks->front(), 0, 0, 3).ok());
  EXPECT_EQ(agent->piece(blocks->front(), 0, 0, 4).status().code(), StatusCode::kInvalidArgument);
}

TEST(ShardedAgent, reads_a_block_shard_by_shard_and_checks_them_all) {
  const auto agent = start_agent(sharded_options(4));
  const Content content = *make_content(spec_of(false));
  const auto tokens = make_tokens(8);
  const auto blocks = made_blocks(*agent, tokens);
  ASSERT_TRUE(agent->insert({content, tokens}, blocks).ok());
  std::vector<std::byte> out(agent->status().block_bytes);
  ASSERT_TRUE(agent->read(blocks[1], out).ok());
  const uint64_t part_bytes = agent->layout().piece_bytes;
  for (uint32_t shard = 0; shard < 4; ++shard) {
    const auto last = *agent->piece(blocks[1], 2, 1, shard);
    const std::byte* end = out.data() + (shard + 1) * agent->layout().block_bytes;
    EXPECT_TRUE(std::equal(last.begin(), last.end(), end - part_bytes));
  }
  EXPECT_EQ(agent->read(blocks[1], std::span(out).first(out.size() / 4)).code(),
            StatusCode::kInvalidArgument);
  corrupt(*agent, blocks[1]);
  EXPECT_EQ(agent->read(blocks[1], out).code(), StatusCode::kCorruption);
}

TEST(ShardedAgent, replicas_that_differ_are_not_sealed) {
  AgentOptions options = small_options("latent");
  options.content = spec_of(true);
  options.shards = 2;
  const auto agent = start_agent(options);
  ASSERT_NE(agent, nullptr);
  const auto tokens = make_tokens(kBlockTokens);
  const auto blocks = agent->alloc(1);
  ASSERT_TRUE(blocks.ok());
  make_kv(*agent, *blocks, tokens, 0);  // the other rank has yet to write
  const Content content = *agent->content(options.content);
  const Status refused = agent->insert({content, tokens}, *blocks).status();
  EXPECT_EQ(refused.code(), StatusCode::kCorruption) << refused.to_string();
  EXPECT_EQ(agent->match({content, tokens}).tokens, 0u);
  make_kv(*agent, *blocks, tokens, 1);
  EXPECT_TRUE(agent->insert({content, tokens}, *blocks).ok());
}

TEST(ShardedAgent, as_many_shards_as_there_may_be_are_served_over_every_transport) {
  for (const char* transport : {"local", "shm", "tcp"}) {
    AgentOptions options = small_options("agent", transport);
    options.content = spec_of(true);
    options.shards = kShardsMax;
    const auto source = start_agent(options);
    const auto target = start_agent(options);
    source->add_peer("agent", target->status().listen);
    const auto tokens = make_tokens(8);
    const auto transfer = source->transfer_with_insert(
        "agent", {*make_content(options.content), tokens}, made_blocks(*source, tokens));
    ASSERT_TRUE(transfer.ok());
    const Status sent = transfer->wait();
    ASSERT_TRUE(sent.ok()) << sent.to_string();
    expect_kv(*target, transfer->report().serving, tokens);
  }
}

TEST(ShardedAgent, ranks_attach_by_their_own_sockets_and_fill_the_same_blocks) {
  const auto folder =
      std::filesystem::temp_directory_path() / ("mempool_ranks_" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  AgentOptions options = sharded_options(2);
  options.engine_socket = folder / "agent.sock";
  const auto agent = start_agent(options);
  std::vector<std::unique_ptr<Pool>> ranks;
  for (uint32_t rank = 0; rank < 2; ++rank) {
    auto attached = attach({.path = options.engine_socket, .shard = rank, .shards = 2});
    ASSERT_TRUE(attached.ok()) << attached.status().to_string();
    EXPECT_EQ((*attached)->shards(), 2u);
    EXPECT_EQ((*attached)->layout(1, rank).first_head, 2 * rank);
    ranks.push_back(std::move(*attached));
  }
  EXPECT_EQ(attach({.path = options.engine_socket, .shards = 4}).status().code(),
            StatusCode::kInvalidArgument);
  const auto tokens = make_tokens(8);
  const auto blocks = *ranks[0]->alloc(2);
  for (uint32_t rank = 0; rank < 2; ++rank) make_kv(*ranks[rank], blocks, tokens, rank);
  const Content content = *make_content(spec_of(false));
  ASSERT_TRUE(ranks[0]->insert({content, tokens}, blocks).ok());
  expect_kv(*agent, blocks, tokens);
  std::vector<std::byte> out(agent->status().block_bytes);
  EXPECT_TRUE(ranks[1]->read(blocks[1], out).ok());
  corrupt(*agent, blocks[1]);
  EXPECT_EQ(ranks[1]->read(blocks[1], out).code(), StatusCode::kCorruption);
  std::filesystem::remove_all(folder);
}

TEST(ShardedAgent, heads_that_do_not_divide_are_refused_at_start) {
  const Status refused = Agent::start(sharded_options(3)).status();
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(refused.message(),
            "4 KV heads do not divide over 3 shards: one number must be a multiple of the other");
  EXPECT_EQ(Agent::start(sharded_options(0)).status().code(), StatusCode::kInvalidArgument);
}

/// How a transfer to a peer that tells this of itself ends.
Status send_to(const std::function<void(Welcome&)>& change) {
  const auto target = start_agent(sharded_options(2));
  const testing::WelcomeProxy proxy(target->status().listen, change);
  const auto source = start_agent(sharded_options(2));
  source->add_peer("agent", proxy.address());
  const auto tokens = make_tokens(8);
  const auto blocks = made_blocks(*source, tokens);
  const auto transfer =
      source->transfer_with_insert("agent", {*make_content(spec_of(false)), tokens}, blocks);
  const Status status = transfer->wait();
  EXPECT_TRUE(source->free(blocks).ok());
  EXPECT_EQ(target->status().blocks.at("free"), target->status().total);
  return status;
}

TEST(ShardedAgent, a_peer_whose_shards_do_not_add_up_gets_nothing) {
  const Status gap = send_to([](Welcome& welcome) {
    for (PlanSegment& segment : welcome.segments) segment.shard *= 2;
  });
  EXPECT_EQ(gap.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(gap.message(),
            "peer 'agent': shard 2 comes where shard 1 should: give all ranks, in their order");
  const Status overlap = send_to([](Welcome& welcome) {
    for (PlanSegment& segment : welcome.segments) segment.layout.first_head = 0;
  });
  EXPECT_EQ(overlap.message(),
            "peer 'agent': shards 0 and 1 both hold heads from 0 on and are not replicas of each "
            "other");
}

}  // namespace
}  // namespace mempool
