// SPDX-License-Identifier: Apache-2.0
// Owns the checks of what calls promise beside their usual way: pins, deadlines that nobody gave,
// placements that do not map, gauges of peers.
#include <unistd.h>

#include <gtest/gtest.h>

#include "core/listen_socket.h"
#include "mempool/agent.h"
#include "tests/agent/agent_pair.h"
#include "tests/agent/welcome_proxy.h"

namespace mempool {
namespace {

using namespace std::chrono_literals;
using testing::filled_blocks;
using testing::holds;
using testing::make_tokens;
using testing::small_options;
using testing::small_spec;
using testing::start_agent;
using testing::wait_until;
using testing::WelcomeProxy;

const Content kContent = *make_content(small_spec());

bool shows(Agent& agent, const std::string& line) {
  return agent.metrics().find("\n" + line + "\n") != std::string::npos;
}

TEST(AgentCall, a_block_pinned_twice_is_the_callers_until_the_second_unpin) {
  const auto agent = start_agent(small_options("alone"));
  const auto tokens = make_tokens(4);
  const auto blocks = filled_blocks(*agent, tokens);
  ASSERT_TRUE(agent->pin(blocks).ok());
  EXPECT_EQ(agent->status().pins, 2u);
  EXPECT_EQ(agent->free(blocks).code(), StatusCode::kInvalidArgument);
  ASSERT_TRUE(agent->unpin(blocks).ok());
  EXPECT_TRUE(holds(*agent, blocks[0], tokens[0]));
  ASSERT_TRUE(agent->unpin(blocks).ok());
  EXPECT_EQ(agent->pin(blocks).code(), StatusCode::kStale);
  EXPECT_EQ(agent->status().blocks.at("free"), 64u);
}

TEST(AgentCall, a_published_block_that_is_pinned_is_not_evicted) {
  const auto agent = start_agent(small_options("alone"));
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*agent, tokens);
  ASSERT_TRUE(agent->insert({kContent, tokens}, blocks).ok());
  ASSERT_TRUE(agent->unpin(blocks).ok());
  ASSERT_TRUE(agent->pin(std::span(blocks).first(1)).ok());
  const auto others = agent->alloc(63);
  ASSERT_TRUE(others.ok()) << others.status().to_string();
  EXPECT_EQ(agent->alloc(1).status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(agent->match({kContent, tokens}).tokens, 4u);
  EXPECT_TRUE(holds(*agent, blocks[0], tokens[0]));
}

TEST(AgentCall, a_call_without_a_deadline_has_the_agents) {
  AgentOptions options = small_options("source");
  options.default_deadline = 50ms;
  const auto agent = start_agent(options);
  const ListenSocket silent = *listen_on("127.0.0.1", 0, "");  // takes connections, says nothing
  agent->add_peer("silent", join_address(silent.host, silent.port));
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*agent, tokens);
  const auto transfer = agent->transfer_with_insert("silent", {kContent, tokens}, blocks);
  ASSERT_TRUE(transfer.ok());
  EXPECT_EQ(transfer->wait().code(), StatusCode::kDeadlineExceeded);
  EXPECT_GE(transfer->report().complete_us, 50'000);
  EXPECT_TRUE(agent->free(blocks).ok());
  close(silent.descriptor);
}

TEST(AgentCall, placements_that_do_not_map_are_unsupported_and_hold_nothing) {
  const auto target = start_agent(small_options("target"));
  // No agent says so yet: one that holds another part of the model.
  const WelcomeProxy proxy(target->status().listen, [](Welcome& welcome) {
    for (PlanSegment& segment : welcome.segments) segment.layout.first_layer = 2;
  });
  const auto source = start_agent(small_options("source"));
  source->add_peer("target", proxy.address());
  const auto tokens = make_tokens(10);
  const auto blocks = filled_blocks(*source, tokens);
  const auto transfer = source->transfer_with_insert("target", {kContent, tokens}, blocks);
  ASSERT_TRUE(transfer.ok());
  const Status refused = transfer->wait();
  EXPECT_EQ(refused.code(), StatusCode::kUnsupported);
  EXPECT_NE(refused.message().find("both ends must hold the same layers"), std::string_view::npos)
      << refused.message();
  EXPECT_TRUE(source->free(blocks).ok());
  EXPECT_TRUE(wait_until([&] { return target->status().blocks.at("free") == 64; }));
  EXPECT_TRUE(target->status().quarantine.empty());
  EXPECT_TRUE(target->status().audit.ok());
}

TEST(AgentCall, peers_are_shown_up_by_their_role) {
  const auto source = start_agent(small_options("source"));
  auto target = start_agent(small_options("target"));
  source->add_peer("target", target->status().listen);
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*source, tokens);
  auto transfer = source->transfer_with_insert("target", {kContent, tokens}, blocks);
  ASSERT_TRUE(transfer.ok());
  ASSERT_TRUE(transfer->wait().ok());
  EXPECT_TRUE(shows(*source, R"(mempool_peer_up{peer="target",role="target"} 1)"));
  EXPECT_TRUE(shows(*target, R"(mempool_peer_up{peer="source",role="source"} 1)"));
  target.reset();
  EXPECT_TRUE(wait_until(
      [&] { return shows(*source, R"(mempool_peer_up{peer="target",role="target"} 0)"); }));
}

}  // namespace
}  // namespace mempool
