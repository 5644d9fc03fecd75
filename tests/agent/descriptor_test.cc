// SPDX-License-Identifier: Apache-2.0
// Owns the checks of an agent's descriptors: how many it takes, and that none gets into the
// programs that its process starts.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>

#include "agent/agent_config.h"
#include "core/descriptor_room.h"
#include "tests/agent/agent_pair.h"

namespace mempool {
namespace {

using testing::filled_blocks;
using testing::make_tokens;
using testing::small_options;
using testing::small_spec;
using testing::start_agent;

/// The descriptors that a program started now would have.
std::set<int> inherited() {
  std::set<int> result;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    const int descriptor = std::atoi(entry.path().filename().c_str());
    const int flags = ::fcntl(descriptor, F_GETFD);
    if (flags >= 0 && (flags & FD_CLOEXEC) == 0) result.insert(descriptor);
  }
  return result;
}

TEST(AgentDescriptors, an_agent_starts_with_no_more_than_it_asks_for) {
  AgentOptions options = small_options("a");
  options.transports = {"shm", "tcp"};
  options.segment_blocks.assign(20, 2);
  options.shards = 2;
  options.admin = "127.0.0.1:0";
  options.engine_socket = ::testing::TempDir() + "descriptors-" + std::to_string(::getpid());
  const uint64_t before = descriptor_room().value();
  const auto agent = start_agent(options);
  ASSERT_NE(agent, nullptr);
  EXPECT_LE(before - descriptor_room().value(), descriptors_at_start(options));
}

TEST(AgentDescriptors, a_pool_of_more_segments_than_the_limit_allows_is_refused_before_it_is_made) {
  AgentOptions options = small_options("a");
  options.segment_blocks.assign(200, 1);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit few = before;
  few.rlim_cur = 200;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  const uint64_t room = descriptor_room().value();
  const auto agent = Agent::start(options);
  EXPECT_EQ(descriptor_room().value(), room);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(agent.status().code(), StatusCode::kResourceExhausted);
  for (const char* part : {"200 segments in 1 shards", "LimitNOFILE"}) {
    EXPECT_NE(agent.status().message().find(part), std::string_view::npos) << part;
  }
}

class DescriptorTest : public ::testing::TestWithParam<std::string> {};

TEST_P(DescriptorTest, a_program_that_the_engine_starts_holds_no_connection) {
  const std::set<int> before = inherited();
  AgentOptions options = small_options("decode", GetParam());
  options.admin = "127.0.0.1:0";
  const auto target = start_agent(options);
  const auto source = start_agent(small_options("prefill", GetParam()));
  source->add_peer("decode", target->status().listen);
  const auto tokens = make_tokens(20);
  const auto blocks = filled_blocks(*source, tokens);
  const auto sent =
      source->transfer_with_insert("decode", {*source->content(small_spec()), tokens}, blocks);
  ASSERT_TRUE(sent.ok());
  ASSERT_TRUE(sent->wait().ok()) << sent->wait().to_string();
  EXPECT_EQ(inherited(), before);
}

INSTANTIATE_TEST_SUITE_P(Over, DescriptorTest, ::testing::Values("shm", "tcp"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace mempool
