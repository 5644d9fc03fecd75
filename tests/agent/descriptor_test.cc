// SPDX-License-Identifier: Apache-2.0
// Owns the check that no descriptor of an agent gets into the programs that its process starts.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>

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
