// SPDX-License-Identifier: Apache-2.0
// Owns the proof of a rolling restart: four agents as processes are drained and started anew one
// after the other, while agents here go on sending to all of them and fetch back what they sent.
#include <signal.h>

#include <array>
#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/http_get.h"
#include "mempool/agent.h"
#include "tests/agent/agent_pair.h"
#include "tests/cli/command_process.h"

namespace mempool {
namespace {

using namespace std::chrono_literals;
using testing::filled_blocks;
using ::testing::HasSubstr;
using testing::hold;
using testing::make_tokens;
using testing::small_options;
using testing::small_spec;
using testing::start_agent;
using testing::wait_until;

constexpr size_t kTargets = 4;
constexpr size_t kSenders = 4;
constexpr uint64_t kTargetBlocks = 256;
constexpr uint64_t kSuccesses = 200;  // of a target before and after its restart

std::string target_name(size_t target) {
  return "decode" + std::to_string(target);
}

/// Each target has a host of its own, so that nobody else takes its port between two lives.
std::unique_ptr<BackgroundAgent> start_target(size_t target, const std::string& transport,
                                              const std::string& listen) {
  return std::make_unique<BackgroundAgent>(std::vector<std::string>{
      "--agent.name=" + target_name(target), "--agent.listen=" + listen,
      "--agent.transports=" + transport, "--agent.deliver_arrivals=false",
      "--agent.drain_timeout_ms=60000", "--content.model=tiny", "--content.layers=3",
      "--content.kv_heads=2", "--content.head_size=8", "--content.tokens_per_block=4",
      "--pool.blocks=" + std::to_string(kTargetBlocks), "--log.level=warning"});
}

/// How often each target has given back what it was sent. Thread: safe.
using Successes = std::array<std::atomic<uint64_t>, kTargets>;

/// An agent that sends, and fetches what it has sent. Thread: confined.
class Sender {
 public:
  Sender(const std::string& name, const std::string& transport,
         const std::vector<std::string>& addresses) {
    AgentOptions options = small_options(name, transport);
    options.verify = "off";  // the bytes are looked at here
    agent_ = start_agent(options);
    for (size_t i = 0; i < kTargets; ++i) agent_->add_peer(target_name(i), addresses[i]);
  }
  ~Sender() {
    const AgentStatus status = agent_->status();
    EXPECT_TRUE(status.audit.ok()) << status.audit.to_string();
    EXPECT_EQ(status.blocks.at("free"), status.total);
  }

  Agent& agent() { return *agent_; }

  /// Send a new prompt, whole or by layer, and wait until that has ended.
  Status send(size_t target, const std::vector<TokenId>& tokens, TransferMode mode) {
    const std::vector<BlockAddress> blocks = filled_blocks(*agent_, tokens);
    auto transfer = agent_->transfer_with_insert(target_name(target), {content_, tokens}, blocks,
                                                 {.mode = mode});
    if (transfer.ok() && mode == TransferMode::kByLayer) {
      for (uint32_t layer = 0; layer < small_spec().layers; ++layer) {
        if (!transfer->send_layers(layer, 1).ok()) break;  // it has ended
      }
      if (const Status late = transfer->commit(); !late.ok()) transfer->cancel();
    }
    const Status ended = transfer.ok() ? transfer->wait() : transfer.status();
    EXPECT_TRUE(agent_->unpin(blocks).ok());
    return ended;
  }

  /// Fetch a prompt, look at every byte that comes, and forget it; gives how many blocks came.
  Result<size_t> fetch(size_t target, const std::vector<TokenId>& tokens) {
    const auto transfer = agent_->fetch(target_name(target), {content_, tokens});
    if (!transfer.ok()) return transfer.status();
    const Status ended = transfer->wait();
    if (!ended.ok()) return ended;
    const std::vector<BlockAddress> blocks = transfer->report().serving;
    EXPECT_TRUE(hold(*agent_, blocks, tokens)) << target_name(target);
    EXPECT_TRUE(agent_->unpin(blocks).ok());
    agent_->erase({content_, std::span(tokens).first(small_spec().tokens_per_block)});
    return blocks.size();
  }

  const Content& content() const { return content_; }

 private:
  const Content content_ = *make_content(small_spec());
  std::unique_ptr<Agent> agent_;
};

class RollingRestartTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    for (size_t i = 0; i < kTargets; ++i) {
      targets_.push_back(start_target(i, GetParam(), "127.0.0." + std::to_string(i + 2) + ":0"));
      addresses_.push_back(targets_.back()->ready("listen"));
    }
  }

  /// What a caller meets while a target restarts is worth another try, and nothing else.
  static void expect_worth_a_retry(const Status& ended) {
    EXPECT_TRUE(ended.ok() || ended.code() == StatusCode::kUnavailable ||
                ended.code() == StatusCode::kResourceExhausted)
        << ended.to_string();
  }
  /// Send to all targets in turn until it is enough.
  void load(uint32_t number) {
    Sender sender("prefill" + std::to_string(number), GetParam(), addresses_);
    std::mt19937 random(number);
    while (!enough_) {
      const size_t target = random() % kTargets;
      const auto tokens = make_tokens(8 + random() % 30, random());
      const auto mode = random() % 2 == 0 ? TransferMode::kByLayer : TransferMode::kByRequest;
      const Status sent = sender.send(target, tokens, mode);
      const Result<size_t> fetched = sender.fetch(target, tokens);
      expect_worth_a_retry(sent);
      expect_worth_a_retry(fetched.status());
      const size_t whole = tokens.size() / small_spec().tokens_per_block;
      if (sent.ok() && fetched.ok() && *fetched == whole) ++successes_[target];
    }
  }

  /// Drain a target with a transfer open at it, which ends well, and start it anew.
  void restart(size_t target, Sender& holder) {
    const auto held_tokens = make_tokens(20, 100);
    const auto blocks = filled_blocks(holder.agent(), held_tokens);
    Transfer held =
        *holder.agent().transfer_with_insert(target_name(target), {holder.content(), held_tokens},
                                             blocks, {.mode = TransferMode::kByLayer});
    ASSERT_TRUE(held.send_layers(0, 1).ok());
    // Offers of a session are answered in turn: with this one the held one has its blocks, too.
    const Status behind = holder.send(target, make_tokens(8, 300), TransferMode::kByRequest);
    ASSERT_TRUE(behind.ok()) << behind.to_string();

    targets_[target]->send(SIGTERM);
    Status refused;
    ASSERT_TRUE(wait_until([&] {
      refused = holder.send(target, make_tokens(8, 400), TransferMode::kByRequest);
      return !refused.ok();
    }));
    EXPECT_THAT(refused.to_string(), HasSubstr("UNAVAILABLE: this instance is draining"));
    EXPECT_TRUE(held.send_layers(1, 2).ok());
    EXPECT_TRUE(held.commit().ok());
    EXPECT_TRUE(held.wait().ok()) << held.wait().to_string();
    EXPECT_TRUE(holder.agent().unpin(blocks).ok());
    EXPECT_EQ(targets_[target]->wait(), 0);

    targets_[target] = start_target(target, GetParam(), addresses_[target]);
    EXPECT_EQ(targets_[target]->ready("listen"), addresses_[target]);
  }
  bool serves(size_t target) {
    const uint64_t before = successes_[target];
    return wait_until([&] { return successes_[target] > before + kSuccesses; });
  }
  /// The blocks of a target that are free or published, when its audit is right.
  uint64_t settled(size_t target) {
    const std::string admin = targets_[target]->ready("admin");
    if (http_get(admin, "/readyz", "", 30s)->code != 200) return 0;
    const auto page = nlohmann::json::parse(http_get(admin, "/status", "", 30s)->body);
    const auto blocks = page["pool"]["blocks"].get<std::map<std::string, uint64_t>>();
    return blocks.at("free") + blocks.at("published");
  }
  /// After the load nothing is held, and SIGTERM finds nothing open.
  void expect_whole(size_t target) {
    EXPECT_TRUE(wait_until([&] { return settled(target) == kTargetBlocks; })) << settled(target);
    EXPECT_EQ(targets_[target]->end(SIGTERM), 0);
  }

  std::vector<std::unique_ptr<BackgroundAgent>> targets_;
  std::vector<std::string> addresses_;
  Successes successes_ = {};
  std::atomic<bool> enough_ = false;
};

TEST_P(RollingRestartTest, no_wrong_byte_no_hung_call_and_only_failures_worth_a_retry) {
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < kSenders; ++i) threads.emplace_back([this, i] { load(i); });
  {
    Sender holder("holder", GetParam(), addresses_);
    for (size_t target = 0; target < kTargets; ++target) {
      EXPECT_TRUE(serves(target));
      restart(target, holder);
      EXPECT_TRUE(serves(target));
    }
  }
  enough_ = true;
  for (std::thread& thread : threads) thread.join();
  for (size_t target = 0; target < kTargets; ++target) expect_whole(target);
}

INSTANTIATE_TEST_SUITE_P(Over, RollingRestartTest, ::testing::Values("tcp", "shm"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace mempool
