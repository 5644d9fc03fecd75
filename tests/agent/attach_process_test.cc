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
using testing::wait_until;

/// attach_child as a process, ready when it is made. Thread: confined.
class EngineProcess {
 public:
  EngineProcess(const std::string& path, const char* blocks, const char* mode) {
    int answers[2];
    if (::pipe2(answers, O_CLOEXEC) != 0) std::abort();
    process_ = ::fork();
    if (process_ == 0) {
      ::dup2(answers[1], STDOUT_FILENO);
      ::execl(MEMPOOL_ATTACH_CHILD, MEMPOOL_ATTACH_CHILD, path.c_str(), blocks, mode, nullptr);
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

}  // namespace
}  // namespace mempool
