// SPDX-License-Identifier: Apache-2.0
// Owns the check of a peer process that is stopped amid a transfer, fenced, and goes on.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "mempool/agent.h"
#include "tests/agent/agent_pair.h"
#include "tests/agent/large_kv.h"

namespace mempool {
namespace {

using namespace std::chrono_literals;
using testing::fill;
using testing::holds;
using testing::kLargePromptTokens;
using testing::large_options;
using testing::large_spec;
using testing::make_tokens;
using testing::start_agent;
using testing::wait_until;

/// transfer_child as a process. Thread: confined.
class TransferChild {
 public:
  explicit TransferChild(const std::string& target) {
    int orders[2];
    int answers[2];
    if (::pipe2(orders, O_CLOEXEC) != 0 || ::pipe2(answers, O_CLOEXEC) != 0) std::abort();
    process_ = ::fork();
    if (process_ == 0) {
      ::dup2(orders[0], STDIN_FILENO);
      ::dup2(answers[1], STDOUT_FILENO);
      ::execl(MEMPOOL_TRANSFER_CHILD, MEMPOOL_TRANSFER_CHILD, target.c_str(), nullptr);
      ::_exit(127);
    }
    ::close(orders[0]);
    ::close(answers[1]);
    orders_ = orders[1];
    answers_ = answers[0];
  }
  ~TransferChild() {
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
    ::close(orders_);
    ::close(answers_);
  }

  void send(TokenId first, std::chrono::milliseconds deadline) {
    const std::string line = std::to_string(first) + " " + std::to_string(deadline.count()) + "\n";
    EXPECT_EQ(::write(orders_, line.data(), line.size()), static_cast<ssize_t>(line.size()));
  }
  /// Wait for the status code of the last send.
  std::string answer() {
    std::string line;
    for (char letter = 0; ::read(answers_, &letter, 1) == 1 && letter != '\n';) line += letter;
    return line;
  }
  /// Stop it; it stands still when this returns.
  void stop() {
    ::kill(process_, SIGSTOP);
    int status = 0;
    EXPECT_EQ(::waitpid(process_, &status, WUNTRACED), process_);
    EXPECT_TRUE(WIFSTOPPED(status));
  }
  void go_on() { ::kill(process_, SIGCONT); }

 private:
  pid_t process_ = -1;
  int orders_ = -1;
  int answers_ = -1;
};

class StoppedPeerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    AgentOptions options = large_options("target");
    options.fence_timeout = 2000ms;  // the quarantine is looked at meanwhile
    target_ = start_agent(options);
    ASSERT_NE(target_, nullptr);
  }
  uint64_t count(const std::string& state) const { return target_->status().blocks.at(state); }
  /// Take the next arrival, check its bytes, and empty the pool.
  void take_arrival(TokenId first) {
    const auto arrival = target_->receive(30s);
    ASSERT_TRUE(arrival.ok()) << arrival.status().to_string();
    EXPECT_EQ(arrival->source, "child");
    EXPECT_EQ(arrival->tokens, make_tokens(kLargePromptTokens, first));
    for (size_t i = 0; i < arrival->blocks.size(); ++i) {
      EXPECT_TRUE(holds(*target_, arrival->blocks[i], arrival->tokens[i * 4]));
    }
    EXPECT_TRUE(target_->unpin(arrival->blocks).ok());
    target_->erase({content_, std::span(arrival->tokens).first(4)});
  }
  /// Let the child begin transfers until one is stopped so that it never ends, and wait until the
  /// target has set its blocks aside.
  bool stop_in_a_transfer(TransferChild& child) {
    for (TokenId first = 1; first < 100; ++first) {
      child.send(first, 1000ms);
      const auto has_begun = [this] { return count("reserved") + count("published") > 0; };
      if (!wait_until(has_begun)) return false;
      child.stop();
      // All of it may have been on its way already; then it arrives.
      const auto is_decided = [this] { return count("quarantined") + count("published") > 0; };
      if (!wait_until(is_decided)) return false;
      if (count("published") == 0) return true;
      child.go_on();
      if (child.answer() != "OK") return false;
      take_arrival(first);
    }
    return false;
  }

  const Content content_ = *make_content(large_spec());
  std::unique_ptr<Agent> target_;
};

TEST_F(StoppedPeerTest, a_stopped_peer_is_fenced_harms_nobody_and_can_come_back) {
  TransferChild child(target_->status().listen);
  ASSERT_TRUE(stop_in_a_transfer(child));
  const AgentStatus aside = target_->status();
  EXPECT_EQ(aside.quarantine, (std::map<std::string, uint64_t>{{"child", 48}}));
  EXPECT_NE(target_->metrics().find("mempool_quarantine_blocks{peer=\"child\"} 48"),
            std::string::npos);
  ASSERT_TRUE(wait_until([this] { return count("free") == 64; }));
  EXPECT_TRUE(target_->status().audit.ok());

  const auto others = target_->alloc(64);
  ASSERT_TRUE(others.ok()) << others.status().to_string();
  for (const BlockAddress& block : *others) fill(*target_, block, 251);
  child.go_on();
  const std::string ended = child.answer();
  EXPECT_TRUE(ended == "DEADLINE_EXCEEDED" || ended == "UNAVAILABLE") << ended;
  for (const BlockAddress& block : *others) EXPECT_TRUE(holds(*target_, block, 251));
  ASSERT_TRUE(target_->free(*others).ok());

  std::string sent;
  wait_until([&] {
    child.send(1003, 30s);
    sent = child.answer();
    return sent != "UNAVAILABLE";
  });
  EXPECT_EQ(sent, "OK");
  take_arrival(1003);
  EXPECT_EQ(count("free"), 64u);
}

}  // namespace
}  // namespace mempool
