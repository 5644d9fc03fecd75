// SPDX-License-Identifier: Apache-2.0
// Owns the tests of agents that a forked child finds itself with.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <memory>

#include <gtest/gtest.h>

#include "tests/agent/agent_pair.h"

namespace mempool::testing {
namespace {

constexpr unsigned kPatienceSeconds = 30;  // for a child that hangs, which only a defect makes

/// Run `body` in a fork; gives what it gave, or minus the signal that ended it.
int in_fork(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(kPatienceSeconds);
    ::_exit(body());
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int code_of(const Status& status) {
  return static_cast<int>(status.code());
}

constexpr int kUnavailableCode = static_cast<int>(StatusCode::kUnavailable);

/// An agent that knows another, and a block of it. Thread: confined.
class Fork : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(target_, nullptr);
    AgentOptions options = small_options("source");
    options.peers["target"] = target_->status().listen;
    source_ = start_agent(options);
    ASSERT_NE(source_, nullptr);
    blocks_ = source_->alloc(1).value();
    std::ranges::fill(source_->piece(blocks_[0], 0, 0).value(), std::byte{7});
  }

  Result<Transfer> transfer() {
    return source_->transfer_with_insert("target", {content_, tokens_}, blocks_);
  }

  const std::unique_ptr<Agent> target_ = start_agent(small_options("target"));
  std::unique_ptr<Agent> source_;
  std::vector<BlockAddress> blocks_;
  const Content content_ = *make_content(small_spec());
  const std::vector<TokenId> tokens_ = make_tokens(4);
};

TEST_F(Fork, calls_in_the_child_are_refused_and_do_not_hang) {
  const std::pair<const char*, std::function<Status()>> calls[] = {
      {"content", [&] { return source_->content(small_spec()).status(); }},
      {"alloc", [&] { return source_->alloc(1).status(); }},
      {"free", [&] { return source_->free(blocks_); }},
      {"pin", [&] { return source_->pin(blocks_); }},
      {"unpin", [&] { return source_->unpin(blocks_); }},
      {"piece", [&] { return source_->piece(blocks_[0], 0, 0).status(); }},
      {"insert",
       [&] {
         return source_->insert({content_, tokens_}, blocks_).status();
       }},
      {"insert_keys", [&] { return source_->insert_keys({}, {}).status(); }},
      {"match_keys", [&] { return source_->match_keys({}).status(); }},
      {"erase_keys", [&] { return source_->erase_keys({}).status(); }},
      {"transfer", [&] { return transfer().status(); }},
      {"fetch",
       [&] {
         return source_->fetch("target", {content_, tokens_}).status();
       }},
      {"receive", [&] { return source_->receive(std::chrono::hours(1)).status(); }},
      {"arrival_descriptor", [&] { return source_->arrival_descriptor().status(); }},
      {"drain", [&] { return source_->drain(std::chrono::hours(1)); }},
      {"status", [&] { return source_->status().ready; }},
  };
  for (const auto& [name, call] : calls) {
    EXPECT_EQ(in_fork([&] { return code_of(call()); }), kUnavailableCode) << name;
  }
  EXPECT_EQ(in_fork([&] {
              source_->add_peer("another", "127.0.0.1:1");
              const bool nothing = source_->match({content_, tokens_}).blocks.empty() &&
                                   source_->erase({content_, tokens_}) == 0 &&
                                   source_->metrics().empty();
              return nothing ? 0 : 1;
            }),
            0);
}

TEST_F(Fork, transfer_of_the_parent_cannot_be_waited_for_in_the_child) {
  Transfer begun = transfer().value();
  EXPECT_EQ(in_fork([&] {
              begun.cancel();
              return begun.done() ? code_of(begun.wait()) : 0;
            }),
            kUnavailableCode);
  EXPECT_TRUE(begun.wait().ok());
}

TEST_F(Fork, end_of_the_agent_in_the_child_disturbs_nothing) {
  ASSERT_TRUE(transfer().value().wait().ok());  // a connection is up
  EXPECT_EQ(in_fork([&] {
              source_.reset();
              return 0;
            }),
            0);
  EXPECT_TRUE(transfer().value().wait().ok());
  EXPECT_TRUE(source_->status().audit.ok());
}

TEST_F(Fork, pool_is_not_mapped_in_the_child) {
  const std::span<std::byte> piece = source_->piece(blocks_[0], 0, 0).value();
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  auto* const start =
      reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(piece.data()) & ~(page - 1));
  const auto mapped = [&] { return ::msync(start, page, MS_ASYNC) == 0 ? 1 : 0; };
  EXPECT_EQ(mapped(), 1);
  EXPECT_EQ(in_fork(mapped), 0);
  EXPECT_EQ(piece[0], std::byte{7});
}

TEST_F(Fork, child_may_start_an_agent_of_its_own) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the sanitizer starts no threads in a fork";
#endif
  EXPECT_EQ(in_fork([] {
              const auto own = Agent::start(small_options("own"));
              return own.ok() && (*own)->alloc(1).ok() ? 0 : 1;
            }),
            0);
}

}  // namespace
}  // namespace mempool::testing
