// SPDX-License-Identifier: Apache-2.0
// Owns the checks of attached engines that die, stop, or go without a word, as real processes.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

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

TEST_F(AttachProcessTest, memory_that_a_killed_engine_lent_is_let_go_when_its_readers_are_done) {
  EngineProcess engine(prefill_path_, "0", "lends");
  EXPECT_EQ(prefill_->status().blocks.at("unclaimed"), 5u);
  EXPECT_EQ(held(*prefill_), 1u);
  const auto tokens = make_tokens(8);
  const MatchResult reader = prefill_->match({content_, tokens});
  ASSERT_EQ(reader.tokens, 8u);
  engine.kill();
  ASSERT_TRUE(wait_until([this] { return held(*prefill_) == 0; }));
  EXPECT_EQ(prefill_->status().adopted.size(), 1u) << "somebody still reads it";
  EXPECT_TRUE(testing::holds(*prefill_, reader.blocks[1], tokens[4]));
  ASSERT_TRUE(prefill_->unpin(reader.blocks).ok());
  EXPECT_TRUE(wait_until([this] { return prefill_->status().adopted.empty(); }));
  EXPECT_TRUE(all_given_back(*prefill_));
  EXPECT_EQ(prefill_->match({content_, tokens}).tokens, 0u);
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

TEST_F(AttachProcessTest, a_helper_that_an_engine_has_forked_does_not_keep_its_blocks) {
  EngineProcess engine(prefill_path_, "20", "forked");
  engine.kill();  // the helper holds its sockets, but not the pool
  EXPECT_TRUE(all_given_back(*prefill_));
  EXPECT_TRUE(all_given_back(*decode_));
}

TEST_F(AttachProcessTest, a_forked_child_takes_nothing_from_its_parent) {
  auto engine = attach_engine(prefill_path_);
  const auto tokens = make_tokens(8);
  const auto blocks = testing::filled_blocks(*engine, tokens);
  const pid_t child = ::fork();
  if (child == 0) {
    const bool refused = engine->alloc(1).status().code() == StatusCode::kUnavailable &&
                         !engine->piece(blocks[0], 0, 0).ok();
    engine.reset();
    ::_exit(refused ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(engine->insert({content_, tokens}, blocks).ok());
  EXPECT_TRUE(testing::holds(*engine, blocks[1], tokens[4]));
  EXPECT_EQ(prefill_->status().engines.size(), 1u);
}

// ---- ranks -------------------------------------------------------------------------------------

class RankProcessTest : public AttachProcessTest {
 protected:
  void SetUp() override {
    AttachProcessTest::SetUp();
    prefill_.reset();
    AgentOptions options = small_options("decode");
    options.content.kv_heads = 4;
    decode_ = start_agent(options);
    ASSERT_NE(decode_, nullptr);
    options = small_options("prefill");
    options.content.kv_heads = 4;
    options.shards = 4;
    options.engine_socket = prefill_path_;
    options.peers["decode"] = decode_->status().listen;
    prefill_ = start_agent(options);
    ASSERT_NE(prefill_, nullptr);
    content_ = *prefill_->content(options.content);
    leader_ = attach_rank(0);
    for (const char* rank : {"1", "2", "3"}) add_process(rank);
  }
  void TearDown() override {
    leader_.reset();
    ranks_.clear();
    AttachProcessTest::TearDown();
  }
  void add_process(const char* rank) {
    ranks_.push_back(std::make_unique<EngineProcess>(prefill_path_, "0", "rank", rank, "4"));
  }
  Result<std::unique_ptr<Pool>> try_rank(uint32_t rank) {
    AttachOptions options;
    options.path = prefill_path_;
    options.shard = rank;
    options.shards = 4;
    return attach(options);
  }
  std::unique_ptr<Pool> attach_rank(uint32_t rank) {
    auto pool = try_rank(rank);
    EXPECT_TRUE(pool.ok()) << pool.status().to_string();
    return pool.ok() ? std::move(*pool) : nullptr;
  }
  /// All layers of a prompt, on their way to the peer.
  Transfer send_all_layers(const std::vector<BlockAddress>& blocks) {
    TransferOptions by_layer;
    by_layer.mode = TransferMode::kByLayer;
    auto transfer = leader_->transfer_with_insert("decode", {content_, tokens_}, blocks, by_layer);
    EXPECT_TRUE(transfer.ok()) << transfer.status().to_string();
    EXPECT_TRUE(transfer->send_layers(0, 3).ok());
    return *transfer;
  }

  const std::vector<TokenId> tokens_ = make_tokens(8);
  std::unique_ptr<Pool> leader_;
  std::vector<std::unique_ptr<EngineProcess>> ranks_;  // 1, 2 and 3
};

TEST_F(RankProcessTest, a_rank_that_dies_between_data_and_commit_takes_the_transfer_with_it) {
  const auto blocks = leader_->alloc(2);
  ASSERT_TRUE(blocks.ok()) << blocks.status().to_string();
  Transfer transfer = send_all_layers(*blocks);
  ranks_[1]->kill();
  EXPECT_EQ(transfer.wait().code(), StatusCode::kUnavailable);
  EXPECT_EQ(transfer.commit().code(), StatusCode::kUnavailable);
  EXPECT_TRUE(all_given_back(*decode_));
  EXPECT_EQ(decode_->match({content_, tokens_}).tokens, 0u);

  // Nor is anything else made of what the dead rank may have half written, until all are new.
  EXPECT_EQ(leader_->insert({content_, tokens_}, *blocks).status().code(),
            StatusCode::kUnavailable);
  EXPECT_EQ(leader_->alloc(1).status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(try_rank(2).status().code(), StatusCode::kUnavailable);  // its restart comes too early
  EXPECT_EQ(held(*prefill_), 2u);
  leader_.reset();
  ranks_.clear();
  EXPECT_TRUE(all_given_back(*prefill_));
  ASSERT_TRUE(wait_until([this] { return prefill_->status().engines.empty(); }));
  leader_ = attach_rank(0);
  EXPECT_EQ(leader_->alloc(1).status().code(), StatusCode::kUnavailable);  // one of four
  for (const char* rank : {"1", "2", "3"}) add_process(rank);
  EXPECT_TRUE(leader_->alloc(1).ok());
}

TEST_F(RankProcessTest, a_rank_that_leaves_with_a_word_takes_the_transfer_with_it_too) {
  const auto blocks = leader_->alloc(2);
  ASSERT_TRUE(blocks.ok());
  ranks_[2]->kill();
  ASSERT_TRUE(wait_until([this] { return !leader_->alloc(1).ok(); }));
  leader_.reset();
  ranks_.clear();
  ASSERT_TRUE(wait_until([this] { return prefill_->status().engines.empty(); }));
  leader_ = attach_rank(0);
  auto second = attach_rank(1);
  const auto third = attach_rank(2);
  const auto fourth = attach_rank(3);
  const auto others = leader_->alloc(2);
  ASSERT_TRUE(others.ok()) << others.status().to_string();
  Transfer transfer = send_all_layers(*others);
  second.reset();
  EXPECT_EQ(transfer.wait().code(), StatusCode::kUnavailable);
  EXPECT_EQ(decode_->match({content_, tokens_}).tokens, 0u);
}

TEST_F(RankProcessTest, blocks_stay_while_any_rank_may_write_to_them) {
  ASSERT_TRUE(leader_->alloc(8).ok());
  EXPECT_EQ(held(*prefill_), 8u);
  leader_.reset();  // the others hold no pins, but the pool is mapped there
  ASSERT_TRUE(wait_until([this] {
    const auto engines = prefill_->status().engines;
    return std::ranges::any_of(engines, [](const auto& engine) { return !engine.attached; });
  }));
  ranks_.pop_back();
  ranks_.pop_back();
  EXPECT_EQ(held(*prefill_), 8u);
  ranks_.clear();
  EXPECT_TRUE(all_given_back(*prefill_));
}

}  // namespace
}  // namespace mempool
