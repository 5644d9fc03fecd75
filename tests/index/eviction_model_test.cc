// SPDX-License-Identifier: Apache-2.0
// Tests each eviction policy, with tenants' quotas and floors and without, against a plain model
// that looks at every block for each victim.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <deque>
#include <functional>
#include <map>
#include <optional>

#include "core/clock.h"
#include "tests/index/index_fixture.h"

namespace mempool {
namespace {

constexpr Duration kPeriod = std::chrono::milliseconds(1);
constexpr int64_t kPeriods = 64;  // of a time to live

// Of the first of the two tenants, where there are rules.
constexpr uint64_t kQuota = 9;
constexpr uint64_t kFloor = 5;

/// The policies as their papers and headers tell them: no ranks, no tree. A block is known by its
/// tenant and the tokens up to its end. Thread: confined.
class PlainCache {
 public:
  explicit PlainCache(std::string policy) : policy_(std::move(policy)) {}

  /// Whose blocks may be evicted now.
  std::function<bool(TokenId tenant)> gives = [](TokenId) { return true; };

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
      const auto given = std::exchange(gives, [](TokenId) { return true; });
      while (const auto victim = first_by([&](const Tokens& prefix) {
               return blocks[prefix].period + kPeriods < period ? blocks[prefix].last_use
                                                                : UINT64_MAX;
             })) {
        blocks.erase(*victim);
      }
      gives = given;
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
  size_t of_tenant(TokenId tenant) const {
    return static_cast<size_t>(std::ranges::count_if(
        blocks, [&](const auto& each) { return each.first.front() == tenant; }));
  }
  /// Blocks of a tenant that neither are pinned nor have a pinned one behind them.
  size_t removable(TokenId tenant) const {
    return static_cast<size_t>(std::ranges::count_if(blocks, [&](const auto& each) {
      const Tokens& key = each.first;
      return key.front() == tenant && std::ranges::none_of(blocks, [&](const auto& other) {
               return other.second.pins > 0 && other.first.size() >= key.size() &&
                      std::equal(key.begin(), key.end(), other.first.begin());
             });
    }));
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

  /// Its tenant gives blocks, nobody pins it, nothing continues it.
  bool may_go(const Tokens& prefix) const {
    if (blocks.at(prefix).pins > 0 || !gives(prefix.front())) return false;
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
  uint32_t tenant = 0;
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
      rc::gen::set(&Call::tenant, rc::gen::inRange<uint32_t>(0, 2)),
      rc::gen::set(&Call::tokens, tokens),
      rc::gen::set(&Call::choice, rc::gen::inRange<uint32_t>(0, 1000)));
}

/// Drives an index and the model with the same calls. Thread: confined.
class Twins {
 public:
  Twins(const std::string& policy, bool ruled)
      : ruled_(ruled),
        model_(policy),
        index_(*pool_,
               make_eviction_policy(policy, {kPoolBlocks, kPeriods * kPeriod, &clock_}).value(),
               nullptr, nullptr, ruled ? rules() : TenantRules()) {}

  void step(const Call& call) {
    switch (call.kind) {
      case Call::kRequest:
        return request(call.tenant, call.tokens);
      case Call::kHold:
        held_.push_back(match(call.tenant, call.tokens));
        return;
      case Call::kLetGo:
        if (!held_.empty()) let_go(call.choice % held_.size());
        return;
      case Call::kEvict:
        return evict(call.choice % 6, call.tenant);
      case Call::kWait:
        clock_.advance(kPeriod / 4 * (call.choice % 200));
        return;
    }
  }

  void compare() const {
    RC_ASSERT(index_.audit().to_string() == "OK");
    RC_ASSERT(pool_->audit().status().to_string() == "OK");
    RC_ASSERT(index_.blocks() == model_.blocks.size());
    for (const auto& [key, block] : model_.blocks) {
      const Tokens tokens(key.begin() + 1, key.end());
      RC_ASSERT(index_.peek({contents_[key.front()], tokens}) == tokens.size());
    }
  }

 private:
  struct Held {
    TokenId tenant = 0;
    Tokens tokens;  // that are pinned
    std::vector<BlockAddress> blocks;
  };

  static TenantRules rules() { return {{{"red", tenant_content("red").tenant, kQuota, kFloor}}}; }
  static Tokens key(TokenId tenant, const Tokens& tokens, size_t blocks) {
    Tokens key = {tenant};
    const auto first = tokens.begin();
    key.insert(key.end(), first, first + static_cast<ptrdiff_t>(blocks * kTokensPerBlock));
    return key;
  }
  int64_t period() const { return clock_.now().time_since_epoch() / kPeriod; }

  Held match(TokenId tenant, const Tokens& tokens) {
    Held held{tenant, {}, {}};
    index_.match(kCallerSession, {contents_[tenant], tokens}, held.blocks);
    model_.begin_call(period());
    const auto end = static_cast<ptrdiff_t>(held.blocks.size() * kTokensPerBlock);
    held.tokens.assign(tokens.begin(), tokens.begin() + end);
    for (size_t i = 1; i <= tokens.size() / kTokensPerBlock; ++i) {
      if (!model_.blocks.contains(key(tenant, tokens, i))) break;
      RC_ASSERT(i <= held.blocks.size());
      model_.use(key(tenant, tokens, i), true);
      ++model_.blocks[key(tenant, tokens, i)].pins;
    }
    return held;
  }

  size_t evict_of_model(size_t count) {
    size_t gone = 0;
    while (gone < count && model_.evict_one()) ++gone;
    return gone;
  }

  void evict(size_t count, TokenId tenant) {
    model_.gives = [this, tenant](TokenId from) {
      return from == tenant || !ruled_ || from != 0 || model_.of_tenant(0) > kFloor;
    };
    RC_ASSERT(index_.evict(count, contents_[tenant].tenant) == evict_of_model(count));
  }

  /// What insert() does before it publishes; false where the quota refuses it.
  bool keep_quota(TokenId tenant, size_t more) {
    const size_t wanted = model_.of_tenant(tenant) + more;
    if (!ruled_ || tenant != 0 || wanted <= kQuota) return true;
    if (model_.removable(tenant) < wanted - kQuota) return false;
    model_.gives = [tenant](TokenId from) { return from == tenant; };
    RC_ASSERT(evict_of_model(wanted - kQuota) == wanted - kQuota);
    return true;
  }

  /// As an engine does it: match, make room, insert, let go.
  void request(TokenId tenant, const Tokens& tokens) {
    held_.push_back(match(tenant, tokens));
    Held& held = held_.back();
    const size_t matched = held.blocks.size();
    const size_t missing = tokens.size() / kTokensPerBlock - matched;
    if (missing > pool_->free_blocks()) evict(missing - pool_->free_blocks(), tenant);
    if (missing <= pool_->free_blocks()) {
      std::vector<BlockAddress> blocks = held.blocks;
      RC_ASSERT(pool_->alloc(kCallerSession, missing, BlockState::kWriting, blocks).ok());
      const Status status =
          index_.insert(kCallerSession, {contents_[tenant], tokens}, blocks).status();
      model_.begin_call(period());
      RC_ASSERT(status.ok() == keep_quota(tenant, missing));
      if (status.ok()) {
        held.blocks = blocks;
        held.tokens = tokens;
        publish(held, matched);
      } else {
        RC_ASSERT(pool_->free(kCallerSession, std::span(blocks).subspan(matched)).ok());
      }
    }
    let_go(held_.size() - 1);
  }

  void publish(const Held& held, size_t matched) {
    for (size_t i = 1; i <= held.blocks.size(); ++i) {
      const Tokens each = key(held.tenant, held.tokens, i);
      i <= matched ? model_.use(each, false) : model_.insert(each);
      if (i > matched) ++model_.blocks[each].pins;
    }
  }

  void let_go(size_t position) {
    const Held held = held_[position];
    held_.erase(held_.begin() + static_cast<ptrdiff_t>(position));
    RC_ASSERT(pool_->unpin(kCallerSession, held.blocks).ok());
    for (size_t i = 1; i <= held.blocks.size(); ++i) {
      --model_.blocks[key(held.tenant, held.tokens, i)].pins;
    }
  }

  const bool ruled_;
  PlainCache model_;
  ManualClock clock_;
  const std::array<Content, 2> contents_ = {tenant_content("red"), tenant_content("blue")};
  std::unique_ptr<BlockPool> pool_ = test_pool();
  LocalIndex index_;
  std::vector<Held> held_;
};

void check_policy(const std::string& policy) {
  Twins twins(policy, *rc::gen::arbitrary<bool>());
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
