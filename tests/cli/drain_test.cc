// SPDX-License-Identifier: Apache-2.0
// Owns the proof that /readyz tells of the start and that SIGTERM drains `mempool agent`: a process
// as the target, an agent here as the source that holds a transfer open.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/http_get.h"
#include "core/listen_socket.h"
#include "mempool/agent.h"
#include "tests/cli/command_process.h"

namespace mempool {
namespace {

using ::testing::HasSubstr;

constexpr std::chrono::milliseconds kTimeout{30000};  // only a defect takes it

TEST(Readiness, page_says_starting_while_the_pool_is_made) {
  AgentOptions options;
  const ListenSocket free_port = listen_on("127.0.0.1", 0, "").value();
  ::close(free_port.descriptor);
  options.admin = join_address(free_port.host, free_port.port);
  options.content = {.model = "tiny", .layers = 2, .kv_heads = 4, .head_size = 64};
  options.segment_blocks = {16384};  // 512 MiB, which take long to touch
  std::unique_ptr<Agent> agent;
  std::thread starter([&] { agent = Agent::start(options).value(); });
  Result<HttpPage> first = unavailable("");
  const auto end = std::chrono::steady_clock::now() + kTimeout;
  while (!first.ok() && std::chrono::steady_clock::now() < end) {
    first = http_get(options.admin, "/readyz", "", kTimeout);
  }
  starter.join();
  ASSERT_TRUE(first.ok()) << first.status().to_string();
  EXPECT_EQ(first->code, 503);
  EXPECT_THAT(first->body, HasSubstr("starting"));
  EXPECT_EQ(http_get(options.admin, "/readyz", "", kTimeout)->code, 200);
}

class Drain : public ::testing::Test {
 protected:
  void start(const std::string& drain_timeout_ms) {
    target_ = std::make_unique<BackgroundAgent>(std::vector<std::string>{
        "--agent.name=decode", "--content.model=tiny", "--content.layers=2", "--content.kv_heads=4",
        "--content.head_size=64", "--pool.blocks=64",
        "--agent.drain_timeout_ms=" + drain_timeout_ms});
    AgentOptions options;
    options.name = "prefill";
    options.content = {.model = "tiny", .layers = 2, .kv_heads = 4, .head_size = 64};
    options.segment_blocks = {64};
    options.peers["decode"] = target_->ready("listen");
    source_ = Agent::start(options).value();
    prompt_ = {source_->content(options.content).value(), tokens_};
    blocks_ = source_->alloc(3).value();
  }
  /// A transfer whose first layer is on its way and whose second one is still being made.
  Transfer hold_open() {
    TransferOptions options;
    options.mode = TransferMode::kByLayer;
    options.deadline = kTimeout;
    Transfer held = source_->transfer_with_insert("decode", prompt_, blocks_, options).value();
    EXPECT_TRUE(held.send_layers(0, 1).ok());
    EXPECT_TRUE(page_shows("/status", "\"reserved\": 3"));
    return held;
  }
  /// Ask for the page until it has the words.
  bool page_shows(const std::string& path, const std::string& words) const {
    const auto end = std::chrono::steady_clock::now() + kTimeout;
    while (std::chrono::steady_clock::now() < end) {
      const Result<HttpPage> page = http_get(target_->ready("admin"), path, "", kTimeout);
      if (page.ok() && page->body.find(words) != std::string::npos) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }

  const std::vector<TokenId> tokens_ = std::vector<TokenId>(40, 7);
  std::unique_ptr<BackgroundAgent> target_;
  std::unique_ptr<Agent> source_;
  Prompt prompt_;
  std::vector<BlockAddress> blocks_;
};

TEST_F(Drain, an_open_transfer_ends_and_new_offers_are_refused) {
  start("30000");
  Transfer held = hold_open();
  target_->send(SIGTERM);
  ASSERT_TRUE(page_shows("/readyz", "draining: 1 inbound and 0 outbound transfers are open"));
  EXPECT_EQ(http_get(target_->ready("admin"), "/readyz", "", kTimeout)->code, 503);
  EXPECT_EQ(http_get(target_->ready("admin"), "/healthz", "", kTimeout)->code, 200);

  const std::vector<TokenId> others(40, 8);
  const Status refused =
      source_->transfer_with_insert("decode", {prompt_.content, others}, blocks_).value().wait();
  EXPECT_EQ(refused.code(), StatusCode::kUnavailable);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("draining; try another instance"));
  EXPECT_GT(refused.retry_after_ms(), 0u);

  EXPECT_TRUE(held.send_layers(1, 1).ok());
  EXPECT_TRUE(held.commit().ok());
  EXPECT_TRUE(held.wait().ok()) << held.wait().to_string();
  EXPECT_EQ(target_->wait(), 0);
}

TEST_F(Drain, the_agent_ends_when_the_time_is_over) {
  start("50");
  const Transfer held = hold_open();
  EXPECT_EQ(target_->end(SIGINT), 0);
  EXPECT_EQ(held.wait().code(), StatusCode::kUnavailable);
}

TEST_F(Drain, a_second_signal_ends_it_at_once) {
  start("86400000");
  const Transfer held = hold_open();
  target_->send(SIGTERM);
  ASSERT_TRUE(page_shows("/readyz", "draining"));
  EXPECT_EQ(target_->end(SIGTERM), 128 + SIGTERM);
  EXPECT_EQ(held.wait().code(), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace mempool
