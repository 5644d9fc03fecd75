// SPDX-License-Identifier: Apache-2.0
// Tests the block pool against a plain restatement of its rules, over seeded random calls.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <vector>

#include "core/block_pool.h"
#include "core/random.h"

namespace mempool {
namespace {

constexpr uint64_t kIncarnation = 0x1f2e;
constexpr uint32_t kBlocks = 40;
constexpr SessionId kSessions = 4;  // 0 is the caller
constexpr int kSteps = 4000;

/// One block as the rules have it, without any of the pool's bookkeeping.
struct ModelBlock {
  BlockState state = BlockState::kFree;
  uint32_t generation = 1;
  std::map<SessionId, uint32_t> pins;
  bool awaits_writer = false;

  uint32_t all_pins() const {
    uint32_t sum = 0;
    for (const auto& [session, count] : pins) sum += count;
    return sum;
  }
  uint32_t pins_of(SessionId session) const {
    return pins.contains(session) ? pins.at(session) : 0;
  }
  void free_if_unheld() {
    if (all_pins() != 0 || state == BlockState::kPublished || awaits_writer) return;
    *this = {.generation = generation + 1};
  }
  bool operator==(const ModelBlock&) const = default;
};

/// Drives a pool and its model with the same random calls. Thread: confined.
class Pair {
 public:
  explicit Pair(uint64_t seed) : random_(seed), model_(kBlocks) {
    PoolOptions options;
    options.shape = {.layers = 1, .kv_heads = 1, .head_size = 2};
    options.segment_blocks = {kBlocks / 2, kBlocks - kBlocks / 2};
    pool_ = BlockPool::create(options, kIncarnation).value();
  }

  void step() {
    switch (random_.below(9)) {
      case 0:
        return alloc();
      case 1:
        return free();
      case 2:
        return pin();
      case 3:
        return unpin();
      case 4:
        return seal_or_publish();
      case 5:
        return unpublish();
      case 6:
        return quarantine_or_release();
      case 7:
        return pin_published();
      default:
        if (random_.chance(0.05)) end_session(session());
    }
  }

  void compare() const {
    const Result<PoolAudit> audit = pool_->audit();
    ASSERT_TRUE(audit.ok()) << audit.status().to_string();
    uint64_t pins = 0;
    std::array<uint64_t, kBlockStates> counts{};
    for (uint32_t i = 0; i < kBlocks; ++i) {
      const ModelBlock& block = model_[i];
      pins += block.all_pins();
      ++counts[static_cast<size_t>(block.state)];
      ASSERT_EQ(pool_->state(i), block.state) << "block " << i;
      ASSERT_EQ(pool_->address(i).generation, block.generation) << "block " << i;
      ASSERT_EQ(pool_->pins(i), block.all_pins()) << "block " << i;
      for (SessionId s = 0; s < kSessions; ++s) ASSERT_EQ(pool_->pins_of(s, i), block.pins_of(s));
    }
    ASSERT_EQ(audit->blocks, counts);
    ASSERT_EQ(audit->pins, pins);
  }

  /// End everything: whatever the seed did, every block must be free again.
  void drain() {
    for (SessionId s = 0; s < kSessions; ++s) end_session(s);
    for (uint32_t i = 0; i < kBlocks; ++i) {
      if (model_[i].awaits_writer) release(i);
      if (model_[i].state == BlockState::kPublished) pool_->unpublish(i);
    }
    EXPECT_EQ(pool_->audit().value().count(BlockState::kFree), kBlocks);
  }

 private:
  SessionId session() { return static_cast<SessionId>(random_.below(kSessions)); }
  uint32_t index() { return static_cast<uint32_t>(random_.below(kBlocks)); }

  /// Up to three addresses, mostly good ones: now and then stale, foreign or out of range.
  std::vector<BlockAddress> addresses() {
    std::vector<BlockAddress> list(1 + random_.below(3));
    for (BlockAddress& address : list) {
      address = BlockAddress::make(kIncarnation, 0, Medium::kHost, index());
      address.generation = model_[address.index()].generation;
      if (random_.chance(0.03)) address.generation -= 1;
      if (random_.chance(0.02)) address.incarnation += 1;
      if (random_.chance(0.02)) address.place += kBlocks;
    }
    return list;
  }

  StatusCode code_of(const BlockAddress& address) const {
    if (address.incarnation != kIncarnation) return StatusCode::kStale;
    if (address.index() >= kBlocks) return StatusCode::kInvalidArgument;
    const ModelBlock& block = model_[address.index()];
    const bool live = block.state != BlockState::kFree && block.generation == address.generation;
    return live ? StatusCode::kOk : StatusCode::kStale;
  }

  void alloc() {
    const SessionId who = session();
    const size_t count = random_.below(8);
    const BlockState state = random_.chance(0.5) ? BlockState::kWriting : BlockState::kReserved;
    std::vector<BlockAddress> out;
    const Status status = pool_->alloc(who, count, state, out, index());
    const size_t free = static_cast<size_t>(
        std::count_if(model_.begin(), model_.end(),
                      [](const ModelBlock& block) { return block.state == BlockState::kFree; }));
    ASSERT_EQ(status.code(), count <= free ? StatusCode::kOk : StatusCode::kResourceExhausted);
    ASSERT_EQ(out.size(), status.ok() ? count : 0);
    for (const BlockAddress& address : out) {
      ModelBlock& block = model_[address.index()];
      ASSERT_EQ(block.state, BlockState::kFree) << "a live block was given out";
      ASSERT_EQ(block.generation, address.generation);
      block.state = state;
      block.pins[who] = 1;
    }
  }

  void free() {
    const SessionId who = session();
    const std::vector<BlockAddress> list = addresses();
    std::vector<ModelBlock> next = model_;
    StatusCode expected = StatusCode::kOk;
    std::map<uint32_t, int> named;
    for (const BlockAddress& address : list) {
      if (expected = code_of(address); expected != StatusCode::kOk) break;
      ModelBlock& block = next[address.index()];
      if (named[address.index()]++ != 0 || block.state == BlockState::kPublished ||
          block.state == BlockState::kQuarantined || block.all_pins() != 1 ||
          block.pins_of(who) != 1) {
        expected = StatusCode::kInvalidArgument;
        break;
      }
      block = {.generation = block.generation + 1};
    }
    ASSERT_EQ(pool_->free(who, list).code(), expected);
    if (expected == StatusCode::kOk) model_ = next;
  }

  void pin() {
    const SessionId who = session();
    const std::vector<BlockAddress> list = addresses();
    std::vector<ModelBlock> next = model_;
    StatusCode expected = StatusCode::kOk;
    for (const BlockAddress& address : list) {
      if (expected = code_of(address); expected != StatusCode::kOk) break;
      ModelBlock& block = next[address.index()];
      if (block.state == BlockState::kReserved || block.state == BlockState::kQuarantined) {
        expected = StatusCode::kInvalidArgument;
        break;
      }
      ++block.pins[who];
    }
    ASSERT_EQ(pool_->pin(who, list).code(), expected);
    if (expected == StatusCode::kOk) model_ = next;
  }

  void unpin() {
    const SessionId who = session();
    const std::vector<BlockAddress> list = addresses();
    std::vector<ModelBlock> next = model_;
    StatusCode expected = StatusCode::kOk;
    for (const BlockAddress& address : list) {
      if (expected = code_of(address); expected != StatusCode::kOk) break;
      uint32_t& pins = next[address.index()].pins[who];
      if (pins == 0) {
        expected = StatusCode::kInvalidArgument;
        break;
      }
      --pins;
    }
    ASSERT_EQ(pool_->unpin(who, list).code(), expected);
    if (expected != StatusCode::kOk) return;
    model_ = next;
    for (const BlockAddress& address : list) {
      ModelBlock& block = model_[address.index()];
      if (block.generation == address.generation) block.free_if_unheld();
    }
  }

  void seal_or_publish() {
    const uint32_t i = index();
    ModelBlock& block = model_[i];
    if (block.state == BlockState::kPrivate && random_.chance(0.7)) {
      pool_->publish(i);
      block.state = BlockState::kPublished;
    } else if (block.state == BlockState::kReserved || block.state == BlockState::kWriting ||
               block.state == BlockState::kPrivate) {
      pool_->seal(i, i);
      block.state = BlockState::kPrivate;
      ASSERT_EQ(pool_->checksum(i), i);
    }
  }

  void unpublish() {
    const uint32_t i = index();
    if (model_[i].state != BlockState::kPublished) return;
    pool_->unpublish(i);
    model_[i].state = BlockState::kPrivate;
    model_[i].free_if_unheld();
  }

  void quarantine_or_release() {
    const uint32_t i = index();
    const SessionId who = session();
    ModelBlock& block = model_[i];
    if (block.awaits_writer) return release(i);
    const bool fits = block.state == BlockState::kReserved || block.state == BlockState::kPrivate;
    const bool alone = block.state == BlockState::kPrivate || block.all_pins() == 1;
    if (!fits || !alone || block.pins_of(who) == 0) return;
    pool_->quarantine(who, i, i % 2 == 0 ? "even" : "odd");
    block.state = BlockState::kQuarantined;
    block.awaits_writer = true;
    --block.pins[who];
  }

  void release(uint32_t i) {
    pool_->release(i);
    model_[i].awaits_writer = false;
    model_[i].free_if_unheld();
  }

  void pin_published() {
    const uint32_t i = index();
    const SessionId who = session();
    if (model_[i].state != BlockState::kPublished) return;
    pool_->pin_published(who, i);
    ++model_[i].pins[who];
  }

  void end_session(SessionId who) {
    pool_->end_session(who);
    for (ModelBlock& block : model_) {
      if (block.pins_of(who) == 0) continue;
      block.pins.erase(who);
      block.free_if_unheld();
    }
  }

  Random random_;
  std::vector<ModelBlock> model_;
  std::unique_ptr<BlockPool> pool_;
};

class BlockPoolModel : public testing::TestWithParam<uint64_t> {};

TEST_P(BlockPoolModel, pool_and_rules_agree_after_every_call) {
  Pair pair(GetParam());
  for (int step = 0; step < kSteps; ++step) {
    SCOPED_TRACE(testing::Message() << "seed " << GetParam() << " step " << step);
    pair.step();
    if (testing::Test::HasFatalFailure()) return;
    pair.compare();
    if (testing::Test::HasFatalFailure()) return;
  }
  pair.drain();
}

INSTANTIATE_TEST_SUITE_P(Seeds, BlockPoolModel, testing::Range(uint64_t{0}, uint64_t{16}));

}  // namespace
}  // namespace mempool
