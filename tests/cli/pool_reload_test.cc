// SPDX-License-Identifier: Apache-2.0
// Owns the proof that SIGHUP makes the pool of a running `mempool agent` larger and smaller.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "cli/http_get.h"
#include "mempool/agent.h"
#include "tests/cli/command_process.h"

namespace mempool {
namespace {

constexpr std::chrono::milliseconds kTimeout{30000};  // only a defect takes it

class PoolReload : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ =
        std::filesystem::temp_directory_path() / fmt::format("mempool_reload_{}.toml", getpid());
    set_blocks("64");
    agent_ = std::make_unique<BackgroundAgent>(std::vector<std::string>{
        "--config", path_, "--agent.name=decode", "--content.model=tiny", "--content.layers=2",
        "--content.kv_heads=4", "--content.head_size=64", "--agent.drain_timeout_ms=30000"});
  }
  void TearDown() override {
    EXPECT_EQ(agent_->end(SIGTERM), 0);
    std::filesystem::remove(path_);
  }
  void set_blocks(const std::string& blocks) const {
    std::ofstream(path_) << "[pool]\nblocks = " << blocks << "\nsegments = 2\n";
  }
  bool comes_to(uint32_t blocks) const {
    const auto end = std::chrono::steady_clock::now() + kTimeout;
    while (std::chrono::steady_clock::now() < end) {
      const auto page = http_get(agent_->ready("admin"), "/status", "", kTimeout);
      if (page.ok() && page->body.find(fmt::format("\"total\": {}", blocks)) != std::string::npos) {
        return true;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }

  std::string path_;
  std::unique_ptr<BackgroundAgent> agent_;
};

TEST_F(PoolReload, a_changed_size_is_taken_up_both_ways) {
  set_blocks("96");
  agent_->send(SIGHUP);
  ASSERT_TRUE(comes_to(96));
  set_blocks("33");
  agent_->send(SIGHUP);
  ASSERT_TRUE(comes_to(64)) << "the segment that was added goes, and the next would leave 32";
  set_blocks("32");
  agent_->send(SIGHUP);
  ASSERT_TRUE(comes_to(32));
}

TEST_F(PoolReload, settings_that_cannot_be_read_change_nothing) {
  set_blocks("many");
  agent_->send(SIGHUP);
  set_blocks("80");
  agent_->send(SIGHUP);
  EXPECT_TRUE(comes_to(80)) << "and the agent goes on";
}

}  // namespace
}  // namespace mempool
