// SPDX-License-Identifier: Apache-2.0
// Owns two agents at whose sockets engines attach.
#pragma once

#include <poll.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "mempool/agent.h"
#include "mempool/attach.h"
#include "tests/agent/agent_pair.h"

namespace mempool::testing {

inline std::unique_ptr<Pool> attach_engine(const std::string& path) {
  AttachOptions options;
  options.path = path;
  auto pool = attach(options);
  EXPECT_TRUE(pool.ok()) << pool.status().to_string();
  return pool.ok() ? std::move(*pool) : nullptr;
}

inline bool is_readable(int descriptor, int timeout_ms) {
  pollfd waits{descriptor, POLLIN, 0};
  return ::poll(&waits, 1, timeout_ms) == 1;
}

/// Agents "prefill" and "decode", and the paths where their engines attach. Thread: confined.
class AttachFixture : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / fmt::format("mempool_attach_{}", getpid());
    std::filesystem::create_directories(folder_);
    const std::string transport = HasParam() ? GetParam() : "tcp";
    AgentOptions options = small_options("decode", transport);
    options.engine_socket = decode_path_ = folder_ / "decode.sock";
    decode_ = start_agent(options);
    ASSERT_NE(decode_, nullptr);
    options = small_options("prefill", transport);
    options.engine_socket = prefill_path_ = folder_ / "prefill.sock";
    options.peers["decode"] = decode_->status().listen;
    prefill_ = start_agent(options);
    ASSERT_NE(prefill_, nullptr);
    auto content = prefill_->content(small_spec());
    ASSERT_TRUE(content.ok());
    content_ = *content;
  }
  void TearDown() override {
    for (const Agent* agent : {prefill_.get(), decode_.get()}) {
      if (agent == nullptr) continue;
      EXPECT_TRUE(agent->status().audit.ok()) << agent->status().audit.to_string();
    }
    prefill_.reset();
    decode_.reset();
    std::filesystem::remove_all(folder_);
  }
  static bool HasParam() {
    return ::testing::UnitTest::GetInstance()->current_test_info()->value_param() != nullptr;
  }
  /// Wait until an agent has nothing but free and published blocks.
  static bool all_given_back(const Agent& agent) {
    return wait_until([&agent] {
      const AgentStatus status = agent.status();
      return status.pins == 0 &&
             status.blocks.at("free") + status.blocks.at("published") == status.total;
    });
  }

  std::filesystem::path folder_;
  std::string decode_path_;
  std::string prefill_path_;
  std::unique_ptr<Agent> decode_;
  std::unique_ptr<Agent> prefill_;
  Content content_;
};

}  // namespace mempool::testing
