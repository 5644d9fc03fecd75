// SPDX-License-Identifier: Apache-2.0
// Owns the checks of attached engines that die, stop, or go without a word, as real processes.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include <utility>

#include "tests/agent/attach_fixture.h"

namespace mempool {
namespace {

using namespace std::chrono_literals;
using testing::attach_engine;
using testing::make_tokens;
using testing::small_options;
using testing::start_agent;
using testing::wait_until;

/// attach_child as a process, ready when it is made. Thread: confined.
class EngineProcess {
 public:
  EngineProcess(const std::string& path, const char* blocks, const char* mode,
                const char* rank = nullptr, const char* ranks = nullptr) {
    int answers[2];
    if (::pipe2(answers, O_CLOEXEC) != 0) std::abort();
    process_ = ::fork();
    if (process_ == 0) {
      ::dup2(answers[1], STDOUT_FILENO);
      ::execl(MEMPOOL_ATTACH_CHILD, MEMPOOL_ATTACH_CHILD, path.c_str(), blocks, mode, rank, ranks,
              nullptr);
      ::_exit(127);
    }
    ::close(answers[1]);
    char letter = 0;
    EXPECT_EQ(::read(answers[0], &letter, 1), 1) << "the child could not attach";
    ::close(answers[0]);
  }
  ~EngineProcess() { kill(); }

  void kill() {
    if (process_ < 0) return;
    ::kill(process_, SIGKILL);
    ::waitpid(std::exchange(process_, -1), nullptr, 0);
  }
  void stop() {
    ::kill(process_, SIGSTOP);
    int status = 0;
    ASSERT_EQ(::waitpid(process_, &status, WUNTRACED), process_);
    ASSERT_TRUE(WIFSTOPPED(status));
  }

 private:
  pid_t process_ = -1;
};

class AttachProcessTest : public testing::AttachFixture {
 protected:
  static uint64_t held(const Agent& agent) { return agent.status().blocks.at("writing"); }
};

TEST_F(AttachProcessTest, a_killed_engine_gives_everything_back_and_nothing_of_it_matches) {
  EngineProcess engine(prefill_path_, "20", "open");
  EXPECT_EQ(held(*prefill_), 22u);
  engine.kill();
  EXPECT_TRUE(all_given_back(*prefill_));
  EXPECT_TRUE(all_given_back(*decode_));
  EXPECT_EQ(decode_->match({content_, make_tokens(8)}).tokens, 0u);
  EXPECT_TRUE(attach_engine(prefill_path_)->alloc(prefill_->status().total).ok());
}

TEST_F(AttachProcessTest, a_stopped_engine_keeps_what_it_can_touch_and_others_go_on) {
  EngineProcess engine(prefill_path_, "20", "open");
  engine.stop();
  EXPECT_EQ(held(*prefill_), 22u);
  auto blocks = prefill_->alloc(10);  // the agent is not held up
  ASSERT_TRUE(blocks.ok());
  EXPECT_TRUE(prefill_->free(*blocks).ok());
  AttachOptions options;
  options.path = prefill_path_;
  EXPECT_EQ(attach(options).status().code(), StatusCode::kAlreadyExists);
  engine.kill();
  EXPECT_TRUE(all_given_back(*prefill_));
}

TEST_F(AttachProcessTest, blocks_of_a_process_that_still_has_the_pool_mapped_are_not_given_away) {
  EngineProcess engine(prefill_path_, "20", "closed");
  ASSERT_TRUE(wait_until([this] {
    const AgentStatus status = prefill_->status();
    return status.engines.size() == 1 && !status.engines[0].attached;
  }));
  EXPECT_TRUE(all_given_back(*decode_));  // its transfer is taken back
  EXPECT_EQ(held(*prefill_), 22u);        // it could write into these at any time
  engine.kill();
  EXPECT_TRUE(all_given_back(*prefill_));
}

TEST_F(AttachProcessTest, a_rank_that_dies_between_data_and_commit_takes_the_transfer_with_it) {
  prefill_.reset();
  AgentOptions options = small_options("prefill");
  options.content.kv_heads = 4;
  options.shards = 4;
  options.engine_socket = prefill_path_;
  AgentOptions whole = small_options("decode");
  whole.content.kv_heads = 4;
  decode_ = start_agent(whole);
  ASSERT_NE(decode_, nullptr);
  options.peers["decode"] = decode_->status().listen;
  prefill_ = start_agent(options);
  ASSERT_NE(prefill_, nullptr);
  const Content content = *prefill_->content(options.content);

  AttachOptions first;
  first.path = prefill_path_;
  first.shards = 4;
  auto leader = attach(first);
  ASSERT_TRUE(leader.ok()) << leader.status().to_string();
  EngineProcess second(prefill_path_, "0", "rank", "1", "4");
  EngineProcess third(prefill_path_, "0", "rank", "2", "4");
  EngineProcess fourth(prefill_path_, "0", "rank", "3", "4");

  const auto tokens = make_tokens(8);
  const auto blocks = (*leader)->alloc(2);
  ASSERT_TRUE(blocks.ok());
  TransferOptions by_layer;
  by_layer.mode = TransferMode::kByLayer;
  auto transfer = (*leader)->transfer_with_insert("decode", {content, tokens}, *blocks, by_layer);
  ASSERT_TRUE(transfer.ok()) << transfer.status().to_string();
  ASSERT_TRUE(transfer->send_layers(0, 3).ok());
  third.kill();
  EXPECT_EQ(transfer->wait().code(), StatusCode::kCancelled);
  EXPECT_EQ(transfer->commit().code(), StatusCode::kUnavailable);
  EXPECT_TRUE(all_given_back(*decode_));
  EXPECT_EQ(decode_->match({content, tokens}).tokens, 0u);

  // Nor is anything else made of what the dead rank may have half written, until all are new.
  EXPECT_EQ((*leader)->insert({content, tokens}, *blocks).status().code(),
            StatusCode::kUnavailable);
  EXPECT_EQ((*leader)->alloc(1).status().code(), StatusCode::kUnavailable);
  leader->reset();
  second.kill();
  fourth.kill();
  EXPECT_TRUE(all_given_back(*prefill_));
  ASSERT_TRUE(wait_until([this] { return prefill_->status().engines.empty(); }));
  leader = attach(first);
  ASSERT_TRUE(leader.ok()) << leader.status().to_string();
  EXPECT_TRUE((*leader)->alloc(1).ok());
}

}  // namespace
}  // namespace mempool
