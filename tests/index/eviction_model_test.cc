// SPDX-License-Identifier: Apache-2.0
// Tests each eviction policy against a plain model that looks at every block for each victim.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <optional>

#include "core/clock.h"
#include "tests/index/index_fixture.h"

namespace mempool {
namespace {

constexpr Duration kPeriod = std::chrono::milliseconds(1);
constexpr int64_t kPeriods = 64;  // of a time to live

/// The policies as their papers and headers tell them: no ranks, no tree. Thread: confined.
class PlainCache {
 public:
  explicit PlainCache(std::string policy) : policy_(std::move(policy)) {}

  struct Block {
    uint64_t last_use = 0;
    uint64_t hits = 0;
    int64_t period = 0;  // of its last use
    int pins = 0;
  };
  std::map<Tokens, Block> blocks;

  /// A call begins in a period: with ttl, what had its time goes.
  void begin_call(int64_t period) {
    if (policy_ == "ttl" && period != period_) {
      while (const auto victim = first_by([&](const Tokens& prefix) {
               return blocks[prefix].period + kPeriods < period ? blocks[prefix].last_use
                                                                : UINT64_MAX;
             })) {
        blocks.erase(*victim);
      }
    }
    period_ = period;
    ++tick_;
  }
  void use(const Tokens& prefix, bool hit) {
    Block& block = blocks[prefix];
    block.last_use = tick_;
    block.period = period_;
    if (!hit) return;
    ++block.hits;
    ++frequency_[prefix];
  }
  void insert(const Tokens& prefix) {
    use(prefix, false);
    frequency_[prefix] = 0;
    const auto gone = std::ranges::find(gone_, std::optional(prefix));
    (gone == gone_.end() ? small_ : main_).push_back(prefix);
    if (gone != gone_.end()) *gone = std::nullopt;
  }
  bool evict_one() {
    if (policy_ == "s3fifo") return evict_of_queues();
    const auto victim = first_by([&](const Tokens& prefix) {
      const Block& block = blocks[prefix];
      return policy_ == "lfu" ? block.hits * 1'000'000 + block.last_use : block.last_use;
    });
    if (victim) blocks.erase(*victim);
    return victim.has_value();
  }

 private:
  static constexpr size_t kSmall = kPoolBlocks / 10;
  static constexpr size_t kGone = kPoolBlocks - kSmall;

  /// Nobody pins it, nothing continues it.
  bool may_go(const Tokens& prefix) const {
    if (blocks.at(prefix).pins > 0) return false;
    const auto after = blocks.upper_bound(prefix);  // in this order what continues it is next
    return after == blocks.end() || after->first.size() <= prefix.size() ||
           !std::equal(prefix.begin(), prefix.end(), after->first.begin());
  }
  /// Of those that may go, the one of the lowest value below UINT64_MAX.
  template <typename Value>
  std::optional<Tokens> first_by(Value value) {
    std::optional<Tokens> first;
    uint64_t lowest = UINT64_MAX;
    for (const auto& [prefix, block] : blocks) {
      if (!may_go(prefix) || value(prefix) >= lowest) continue;
      lowest = value(prefix);
      first = prefix;
    }
    return first;
  }
  bool evict_of_queues() {
    while (true) {
      const bool small_due = small_.size() >= kSmall;
      const auto goes = [&](const Tokens& prefix) { return may_go(prefix); };
      for (auto* queue : {small_due ? &small_ : &main_, small_due ? &main_ : &small_}) {
        const auto first = std::ranges::find_if(*queue, goes);
        if (first == queue->end()) continue;
        const Tokens prefix = *first;
        queue->erase(first);
        uint64_t& frequency = frequency_[prefix];
        const bool from_small = queue == &small_;
        if (frequency >= (from_small ? 2u : 1u)) {
          frequency = from_small ? 0 : std::min<uint64_t>(frequency, 3) - 1;
          main_.push_back(prefix);
          break;  // the next one's turn
        }
        blocks.erase(prefix);
        if (!from_small) return true;
        gone_.push_back(prefix);
        if (gone_.size() > kGone) gone_.pop_front();
        return true;
      }
      if (std::ranges::none_of(blocks, [&](const auto& each) { return may_go(each.first); })) {
        return false;
      }
    }
  }

  std::string policy_;
  uint64_t tick_ = 0;
  int64_t period_ = 0;
  std::map<Tokens, uint64_t> frequency_;  // of s3fifo
  std::deque<Tokens> small_;
  std::deque<Tokens> main_;
  std::deque<std::optional<Tokens>> gone_;
};

struct Call {
  enum Kind { kRequest, kHold, kLetGo, kEvict, kWait } kind = kRequest;
  Tokens tokens;
  uint32_t choice = 0;
};

rc::Gen<Call> any_call() {
  const auto tokens = rc::gen::mapcat(rc::gen::inRange<size_t>(1, 7), [](size_t blocks) {
    return rc::gen::container<Tokens>(blocks * kTokensPerBlock, rc::gen::inRange<TokenId>(0, 2));
  });
  return rc::gen::build<Call>(
      rc::gen::set(&Call::kind, rc::gen::weightedElement<Call::Kind>({{8, Call::kRequest},
                                                                      {2, Call::kHold},
                                                                      {2, Call::kLetGo},
                                                                      {2, Call::kEvict},
                                                                      {2, Call::kWait}})),
      rc::gen::set(&Call::tokens, tokens),
      rc::gen::set(&Call::choice, rc::gen::inRange<uint32_t>(0, 1000)));
}

/// Drives an index and the model with the same calls. Thread: confined.
class Twins {
 public:
  explicit Twins(const std::string& policy)
      : model_(policy),
        index_(*pool_,
               make_eviction_policy(policy, {kPoolBlocks, kPeriods * kPeriod, &clock_}).value()) {}

  void step(const Call& call) {
    switch (call.kind) {
      case Call::kRequest:
        return request(call.tokens);
      case Call::kHold:
        held_.push_back(match(call.tokens));
        return;
      case Call::kLetGo:
        if (!held_.empty()) let_go(call.choice % held_.size());
        return;
      case Call::kEvict:
        return evict(call.choice % 6);
      case Call::kWait:
        clock_.advance(kPeriod / 4 * (call.choice % 200));
        return;
    }
  }

  void compare() const {
    RC_ASSERT(index_.audit().to_string() == "OK");
    RC_ASSERT(pool_->audit().status().to_string() == "OK");
    RC_ASSERT(index_.blocks() == model_.blocks.size());
    for (const auto& [prefix, block] : model_.blocks) {
      RC_ASSERT(index_.peek({content_, prefix}) == prefix.size());
    }
  }

 private:
  struct Held {
    Tokens tokens;  // that are pinned
    std::vector<BlockAddress> blocks;
  };

  static Tokens prefix(const Tokens& tokens, size_t blocks) {
    return {tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(blocks * kTokensPerBlock)};
  }
  int64_t period() const { return clock_.now().time_since_epoch() / kPeriod; }

  Held match(const Tokens& tokens) {
    Held held;
    index_.match(kCallerSession, {content_, tokens}, held.blocks);
    model_.begin_call(period());
    held.tokens = prefix(tokens, held.blocks.size());
    for (size_t i = 1; i <= tokens.size() / kTokensPerBlock; ++i) {
      if (!model_.blocks.contains(prefix(tokens, i))) break;
      RC_ASSERT(i <= held.blocks.size());
      model_.use(prefix(tokens, i), true);
      ++model_.blocks[prefix(tokens, i)].pins;
    }
    return held;
  }

  void evict(size_t count) {
    const size_t before = model_.blocks.size();
    while (count > before - model_.blocks.size() && model_.evict_one()) continue;
    RC_ASSERT(index_.evict(count) == before - model_.blocks.size());
  }

  /// As an engine does it: match, make room, insert, let go.
  void request(const Tokens& tokens) {
    held_.push_back(match(tokens));
    Held& held = held_.back();
    const size_t matched = held.blocks.size();
    const size_t missing = tokens.size() / kTokensPerBlock - matched;
    if (missing > pool_->free_blocks()) evict(missing - pool_->free_blocks());
    if (missing <= pool_->free_blocks()) {
      RC_ASSERT(pool_->alloc(kCallerSession, missing, BlockState::kWriting, held.blocks).ok());
      RC_ASSERT(index_.insert(kCallerSession, {content_, tokens}, held.blocks).ok());
      model_.begin_call(period());
      for (size_t i = 1; i <= held.blocks.size(); ++i) {
        i <= matched ? model_.use(prefix(tokens, i), false) : model_.insert(prefix(tokens, i));
        if (i > matched) ++model_.blocks[prefix(tokens, i)].pins;
      }
      held.tokens = tokens;
    }
    let_go(held_.size() - 1);
  }

  void let_go(size_t position) {
    const Held held = held_[position];
    held_.erase(held_.begin() + static_cast<ptrdiff_t>(position));
    RC_ASSERT(pool_->unpin(kCallerSession, held.blocks).ok());
    for (size_t i = 1; i <= held.blocks.size(); ++i) --model_.blocks[prefix(held.tokens, i)].pins;
  }

  PlainCache model_;
  ManualClock clock_;
  Content content_ = test_content("one");
  std::unique_ptr<BlockPool> pool_ = test_pool();
  LocalIndex index_;
  std::vector<Held> held_;
};

void check_policy(const std::string& policy) {
  Twins twins(policy);
  for (const Call& call : *rc::gen::scale(5, rc::gen::container<std::vector<Call>>(any_call()))) {
    twins.step(call);
    twins.compare();
  }
}

RC_GTEST_PROP(EvictionModel, lru_takes_what_a_plain_search_takes, ()) {
  check_policy("lru");
}
RC_GTEST_PROP(EvictionModel, lfu_takes_what_a_plain_search_takes, ()) {
  check_policy("lfu");
}
RC_GTEST_PROP(EvictionModel, ttl_takes_what_a_plain_search_takes, ()) {
  check_policy("ttl");
}
RC_GTEST_PROP(EvictionModel, s3fifo_takes_what_plain_queues_take, ()) {
  check_policy("s3fifo");
}

}  // namespace
}  // namespace mempool
