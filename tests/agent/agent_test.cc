// SPDX-License-Identifier: Apache-2.0
// Owns the checks of the agent's local calls: blocks, index, reading, and options that make none.
#include "mempool/agent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "tests/agent/agent_pair.h"

namespace mempool {
namespace {

using testing::fill;
using testing::filled_blocks;
using ::testing::HasSubstr;
using testing::holds;
using testing::make_tokens;
using testing::small_options;
using testing::small_spec;
using testing::start_agent;

class AgentTest : public ::testing::Test {
 protected:
  void SetUp() override {
    agent_ = start_agent(small_options("alone"));
    ASSERT_NE(agent_, nullptr);
    content_ = *make_content(small_spec());
  }
  void TearDown() override {
    if (agent_ != nullptr) {
      EXPECT_TRUE(agent_->status().audit.ok()) << agent_->status().audit.to_string();
    }
  }
  uint64_t free_blocks() const { return agent_->status().blocks.at("free"); }

  std::unique_ptr<Agent> agent_;
  Content content_;
};

TEST_F(AgentTest, inserted_blocks_are_matched_with_their_addresses) {
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*agent_, tokens);
  const auto inserted = agent_->insert({content_, tokens}, blocks);
  ASSERT_TRUE(inserted.ok()) << inserted.status().to_string();
  EXPECT_TRUE(inserted->duplicates.empty());
  const MatchResult match = agent_->match({content_, tokens});
  EXPECT_EQ(match.tokens, 8u);
  EXPECT_EQ(match.blocks, blocks);
}

TEST_F(AgentTest, an_insert_of_known_tokens_returns_the_callers_blocks_as_duplicates) {
  const auto tokens = make_tokens(8);
  const auto first = filled_blocks(*agent_, tokens);
  ASSERT_TRUE(agent_->insert({content_, tokens}, first).ok());
  const auto second = filled_blocks(*agent_, tokens);
  const auto inserted = agent_->insert({content_, tokens}, second);
  ASSERT_TRUE(inserted.ok());
  EXPECT_EQ(inserted->serving, first);
  EXPECT_EQ(inserted->duplicates, second);
  EXPECT_TRUE(agent_->free(second).ok());
}

TEST_F(AgentTest, blocks_come_back_when_everything_lets_go) {
  const uint64_t before = free_blocks();
  const auto tokens = make_tokens(10);
  const auto blocks = filled_blocks(*agent_, tokens);
  ASSERT_TRUE(agent_->insert({content_, tokens}, std::span(blocks).first(2)).ok());
  ASSERT_TRUE(agent_->unpin(blocks).ok());
  EXPECT_EQ(free_blocks(), before - 2);  // the published ones stay; the tail went with its last pin
  EXPECT_EQ(agent_->erase({content_, std::span(tokens).first(4)}), 2u);
  EXPECT_EQ(free_blocks(), before);
}

TEST_F(AgentTest, a_double_free_is_stale_and_changes_nothing) {
  const auto blocks = *agent_->alloc(2);
  ASSERT_TRUE(agent_->free(blocks).ok());
  EXPECT_EQ(agent_->free(blocks).code(), StatusCode::kStale);
  EXPECT_EQ(agent_->piece(blocks[0], 0, 0).status().code(), StatusCode::kStale);
}

TEST_F(AgentTest, an_address_of_another_incarnation_is_stale) {
  BlockAddress block = agent_->alloc(1)->front();
  block.incarnation ^= 1;
  EXPECT_EQ(agent_->free({&block, 1}).code(), StatusCode::kStale);
  EXPECT_EQ(agent_->pin({&block, 1}).code(), StatusCode::kStale);
}

TEST_F(AgentTest, alloc_evicts_what_nobody_pins) {
  const auto tokens = make_tokens(64 * 4);
  const auto blocks = filled_blocks(*agent_, tokens);
  ASSERT_TRUE(agent_->insert({content_, tokens}, blocks).ok());
  EXPECT_EQ(agent_->alloc(1).status().code(), StatusCode::kResourceExhausted);
  ASSERT_TRUE(agent_->unpin(blocks).ok());
  const auto more = agent_->alloc(4);
  ASSERT_TRUE(more.ok()) << more.status().to_string();
  EXPECT_EQ(agent_->match({content_, tokens}).tokens, 60u * 4);
}

TEST_F(AgentTest, keys_hold_blocks_beside_prompts) {
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*agent_, tokens);
  const std::vector<std::string_view> keys = {"first", std::string_view("\0\xff", 2)};
  const auto inserted = agent_->insert_keys(keys, blocks);
  ASSERT_TRUE(inserted.ok()) << inserted.status().to_string();
  EXPECT_EQ(inserted->admitted, 2u);
  EXPECT_EQ(inserted->serving, blocks);
  EXPECT_EQ(agent_->match({content_, tokens}).tokens, 0u);
  const std::vector<std::string_view> more = {keys[0], keys[1], "third"};
  EXPECT_EQ(agent_->match_keys(more).value(), blocks);
  std::vector<std::byte> bytes(agent_->layout().block_bytes);
  EXPECT_TRUE(agent_->read(blocks[0], bytes).ok());  // sealed and, in this pool, verified
  EXPECT_EQ(agent_->erase_keys(more).value(), 2u);
  EXPECT_TRUE(agent_->match_keys(keys).value().empty());
  EXPECT_TRUE(agent_->unpin(blocks).ok());
  EXPECT_TRUE(agent_->unpin(blocks).ok());  // once for alloc, once for match_keys
  EXPECT_EQ(free_blocks(), agent_->status().total);
}

TEST_F(AgentTest, keys_that_are_too_long_or_too_many_are_one_error) {
  const std::string long_key(kKeyBytesMax + 1, 'k');
  const std::vector<std::string_view> keys = {"good", long_key};
  const Status too_long = agent_->match_keys(keys).status();
  EXPECT_EQ(too_long.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(too_long.message()), HasSubstr("key 1 of the list has 257 bytes"));
  const std::vector<std::string_view> many(kKeysMax + 1, "k");
  EXPECT_EQ(agent_->insert_keys(many, {}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(agent_->match_keys(many).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(agent_->erase_keys(many).status().code(), StatusCode::kInvalidArgument);
  const std::vector<std::string_view> empty = {""};
  EXPECT_EQ(agent_->erase_keys(empty).status().code(), StatusCode::kInvalidArgument);
}

TEST(AgentAdmission, second_hit_says_what_it_took_and_leaves_the_rest_to_the_caller) {
  AgentOptions options = small_options("a");
  options.admission = "second_hit";
  const auto agent = start_agent(options);
  const Content content = *agent->content(options.content);
  const auto tokens = make_tokens(8);
  const auto first = filled_blocks(*agent, tokens);
  const auto refused = agent->insert({content, tokens}, first);
  ASSERT_TRUE(refused.ok()) << refused.status().to_string();
  EXPECT_EQ(refused->admitted, 0u);
  EXPECT_TRUE(refused->serving.empty());
  EXPECT_EQ(agent->match({content, tokens}).tokens, 0u);
  EXPECT_TRUE(agent->free(first).ok());
  const auto second = filled_blocks(*agent, tokens);
  const auto admitted = agent->insert({content, tokens}, second);
  ASSERT_TRUE(admitted.ok()) << admitted.status().to_string();
  EXPECT_EQ(admitted->admitted, 2u);
  EXPECT_EQ(admitted->serving, second);
  EXPECT_EQ(agent->match({content, tokens}).tokens, 8u);
  EXPECT_TRUE(agent->status().audit.ok());
}

TEST(AgentEviction, every_policy_makes_room_and_is_counted) {
  for (const char* policy : {"lru", "s3fifo", "lfu", "ttl"}) {
    AgentOptions options = small_options("a");
    options.eviction = policy;
    const auto agent = start_agent(options);
    const Content content = *agent->content(options.content);
    const auto tokens = make_tokens(64 * 4);
    const auto blocks = filled_blocks(*agent, tokens);
    ASSERT_TRUE(agent->insert({content, tokens}, blocks).ok());
    ASSERT_TRUE(agent->unpin(blocks).ok());
    EXPECT_TRUE(agent->alloc(4).ok()) << policy;
    EXPECT_EQ(agent->match({content, tokens}).tokens, 60u * 4) << policy;
    EXPECT_THAT(agent->metrics(), HasSubstr("mempool_evictions_total 4")) << policy;
    EXPECT_TRUE(agent->status().audit.ok()) << policy;
  }
}

TEST(AgentEviction, what_has_had_its_time_is_not_matched) {
  AgentOptions options = small_options("a");
  options.eviction = "ttl";
  options.eviction_ttl = std::chrono::milliseconds(20);
  const auto agent = start_agent(options);
  const Content content = *agent->content(options.content);
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*agent, tokens);
  ASSERT_TRUE(agent->insert({content, tokens}, blocks).ok());
  ASSERT_TRUE(agent->unpin(blocks).ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(30));  // the agent's clock is the machine's
  EXPECT_EQ(agent->match({content, tokens}).tokens, 0u);
  EXPECT_EQ(agent->status().index_blocks, 0u);
}

TEST_F(AgentTest, read_gives_the_sealed_bytes_in_layer_and_part_order) {
  const auto tokens = make_tokens(4);
  const auto blocks = filled_blocks(*agent_, tokens);
  ASSERT_TRUE(agent_->insert({content_, tokens}, blocks).ok());
  const BlockLayout& layout = agent_->layout();
  std::vector<std::byte> bytes(layout.block_bytes);
  ASSERT_TRUE(agent_->read(blocks[0], bytes).ok());
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto piece = static_cast<uint32_t>(i / layout.piece_bytes);
    ASSERT_EQ(bytes[i], testing::kv_byte(tokens[0], piece / layout.parts, piece % layout.parts,
                                         i % layout.piece_bytes));
  }
  std::vector<std::byte> small(layout.block_bytes - 1);
  EXPECT_EQ(agent_->read(blocks[0], small).code(), StatusCode::kInvalidArgument);
}

TEST_F(AgentTest, a_sealed_block_whose_bytes_changed_is_corruption_and_is_set_aside) {
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*agent_, tokens);
  ASSERT_TRUE(agent_->insert({content_, tokens}, blocks).ok());
  (*agent_->piece(blocks[1], 2, 1))[5] ^= std::byte{1};
  std::vector<std::byte> bytes(agent_->layout().block_bytes);
  EXPECT_EQ(agent_->read(blocks[1], bytes).code(), StatusCode::kCorruption);
  EXPECT_EQ(agent_->match({content_, tokens}).tokens, 4u);
  EXPECT_EQ(agent_->status().quarantine.at("corruption"), 1u);
  EXPECT_NE(agent_->metrics().find("mempool_checksum_failures_total 1"), std::string::npos);
}

TEST_F(AgentTest, a_block_that_was_set_aside_is_not_published_again) {
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*agent_, tokens);
  ASSERT_TRUE(agent_->insert({content_, tokens}, blocks).ok());
  (*agent_->piece(blocks[1], 0, 0))[0] ^= std::byte{1};
  std::vector<std::byte> bytes(agent_->layout().block_bytes);
  ASSERT_EQ(agent_->read(blocks[1], bytes).code(), StatusCode::kCorruption);
  EXPECT_EQ(agent_->insert({content_, tokens}, blocks).status().code(), StatusCode::kCorruption);
}

TEST_F(AgentTest, a_private_tail_that_filled_is_read_as_it_is) {
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*agent_, tokens);
  std::vector<std::byte> bytes(agent_->layout().block_bytes);
  EXPECT_EQ(agent_->read(blocks[1], bytes).code(), StatusCode::kInvalidArgument);  // not sealed
  ASSERT_TRUE(agent_->insert({content_, tokens}, blocks).ok());
  ASSERT_EQ(agent_->erase({content_, tokens}), 1u);
  fill(*agent_, blocks[1], 77);
  EXPECT_TRUE(agent_->read(blocks[1], bytes).ok());
}

TEST_F(AgentTest, an_alloc_that_cannot_fit_evicts_nothing) {
  const auto tokens = make_tokens(32 * 4);
  const auto blocks = filled_blocks(*agent_, tokens);
  ASSERT_TRUE(agent_->insert({content_, tokens}, blocks).ok());
  ASSERT_TRUE(agent_->unpin(blocks).ok());
  const auto held = agent_->alloc(32);
  EXPECT_EQ(agent_->alloc(33).status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(agent_->alloc(SIZE_MAX).status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(agent_->match({content_, tokens}).tokens, tokens.size());
}

TEST_F(AgentTest, a_tail_that_filled_after_it_was_sealed_is_sealed_anew) {
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*agent_, tokens);
  ASSERT_TRUE(agent_->insert({content_, tokens}, blocks).ok());
  ASSERT_EQ(agent_->erase({content_, tokens}), 1u);  // the second block is private now
  fill(*agent_, blocks[1], 99);
  ASSERT_TRUE(agent_->insert({content_, tokens}, blocks).ok());
  std::vector<std::byte> bytes(agent_->layout().block_bytes);
  EXPECT_TRUE(agent_->read(blocks[1], bytes).ok());
}

TEST_F(AgentTest, a_content_of_another_shape_or_model_is_refused) {
  ContentSpec shape = small_spec();
  shape.layers = 4;
  const auto refused = agent_->content(shape);
  EXPECT_EQ(refused.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(refused.status().message().find("layers"), std::string_view::npos);
  ContentSpec model = small_spec();
  model.model = "another";
  const auto tokens = make_tokens(4);
  const auto blocks = filled_blocks(*agent_, tokens);
  EXPECT_EQ(agent_->insert({*make_content(model), tokens}, blocks).status().code(),
            StatusCode::kInvalidArgument);
}

TEST_F(AgentTest, tenants_with_different_salts_never_share) {
  ContentSpec salted = small_spec();
  salted.tenant_salt = "tenant";
  const auto tokens = make_tokens(4);
  const auto blocks = filled_blocks(*agent_, tokens);
  ASSERT_TRUE(agent_->insert({content_, tokens}, blocks).ok());
  EXPECT_EQ(agent_->match({*agent_->content(salted), tokens}).tokens, 0u);
}

TEST_F(AgentTest, a_transfer_to_nobody_or_of_the_wrong_blocks_is_refused_at_once) {
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*agent_, tokens);
  EXPECT_EQ(agent_->transfer_with_insert("nobody", {content_, tokens}, blocks).status().code(),
            StatusCode::kNotFound);
  agent_->add_peer("somebody", "127.0.0.1:1");
  const auto some = std::span(blocks).first(1);
  EXPECT_EQ(agent_->transfer_with_insert("somebody", {content_, tokens}, some).status().code(),
            StatusCode::kInvalidArgument);
  ASSERT_TRUE(agent_->free(blocks).ok());
  EXPECT_EQ(agent_->transfer_with_insert("somebody", {content_, tokens}, blocks).status().code(),
            StatusCode::kStale);
}

TEST_F(AgentTest, a_transfer_to_a_peer_that_is_not_there_is_unavailable) {
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*agent_, tokens);
  agent_->add_peer("somebody", "127.0.0.1:1");
  const auto transfer = agent_->transfer_with_insert("somebody", {content_, tokens}, blocks);
  ASSERT_TRUE(transfer.ok());
  EXPECT_EQ(transfer->wait().code(), StatusCode::kUnavailable);
  EXPECT_TRUE(agent_->free(blocks).ok());
}

TEST_F(AgentTest, receive_ends_by_its_timeout) {
  EXPECT_EQ(agent_->receive(std::chrono::milliseconds(1)).status().code(),
            StatusCode::kDeadlineExceeded);
}

TEST(AgentStart, options_that_make_no_agent_say_which_and_why) {
  AgentOptions options = small_options("a");
  options.listen = "0.0.0.0:0";
  EXPECT_EQ(Agent::start(options).status().code(), StatusCode::kPermissionDenied);
  options = small_options("a");
  options.segment_blocks = {BlockAddress::kIndexMax};
  EXPECT_EQ(Agent::start(options).status().code(), StatusCode::kResourceExhausted);
  options = small_options("a");
  options.require = {"verbs"};
  EXPECT_EQ(Agent::start(options).status().code(), StatusCode::kUnavailable);
  options = small_options("a");
  options.verify = "sometimes";
  EXPECT_EQ(Agent::start(options).status().code(), StatusCode::kInvalidArgument);
  options = small_options("a");
  options.eviction = "mru";
  EXPECT_EQ(Agent::start(options).status().code(), StatusCode::kInvalidArgument);
  options = small_options("a");
  options.admission = "third_hit";
  EXPECT_EQ(Agent::start(options).status().code(), StatusCode::kInvalidArgument);
  options = small_options("a");
  options.eviction = "ttl";
  options.eviction_ttl = std::chrono::milliseconds(0);
  EXPECT_EQ(Agent::start(options).status().code(), StatusCode::kInvalidArgument);
  options = small_options("a");
  options.listen = "127.0.0.1";
  EXPECT_EQ(Agent::start(options).status().code(), StatusCode::kInvalidArgument);
  options = small_options("a");
  options.retransmit = std::chrono::milliseconds(0);
  EXPECT_EQ(Agent::start(options).status().code(), StatusCode::kInvalidArgument);
  options = small_options("a");
  options.placement.heads = 1;
  EXPECT_EQ(Agent::start(options).status().code(), StatusCode::kInvalidArgument);
  options = small_options("a");
  options.placement.first_layer = 1;
  EXPECT_EQ(Agent::start(options).status().code(), StatusCode::kUnsupported);
  options = small_options("");
  EXPECT_EQ(Agent::start(options).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mempool
