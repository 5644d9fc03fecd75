// SPDX-License-Identifier: Apache-2.0
// Tests the local index against a plain map from prefixes to addresses, over random calls.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "tests/index/index_fixture.h"

namespace mempool {
namespace {

/// A content and the tokens up to the end of one block.
using Prefix = std::pair<ContentId, Tokens>;

bool continues(const Prefix& longer, const Prefix& shorter) {
  return longer.first == shorter.first && longer.second.size() >= shorter.second.size() &&
         std::equal(shorter.second.begin(), shorter.second.end(), longer.second.begin());
}

Prefix prefix(const ContentId& content, std::span<const TokenId> tokens, size_t blocks) {
  const auto leading = tokens.first(blocks * kTokensPerBlock);
  return {content, Tokens(leading.begin(), leading.end())};
}

/// What follows from the change records alone. Thread: confined.
class Replayer {
 public:
  void apply(const ChangeRecord& record) {
    RC_ASSERT(record.sequence == ++sequence_);
    Tokens tokens(record.parent.begin(), record.parent.end());
    RC_ASSERT(tokens.empty() || held_.contains({record.root, tokens}));
    const size_t first = tokens.size() / kTokensPerBlock + 1;
    tokens.insert(tokens.end(), record.tokens.begin(), record.tokens.end());
    const size_t last = tokens.size() / kTokensPerBlock;
    RC_ASSERT(first <= last);
    for (size_t blocks = first; blocks <= last; ++blocks) {
      const Prefix each = prefix(record.root, tokens, blocks);
      const bool stored = record.kind == ChangeRecord::Kind::kStored;
      RC_ASSERT((stored ? held_.insert(each).second : held_.erase(each) == 1));
    }
  }
  const std::set<Prefix>& held() const { return held_; }

 private:
  std::set<Prefix> held_;
  uint64_t sequence_ = 0;
};

struct Call {
  enum Kind { kInsert, kMatch, kErase, kEraseBlock, kEvict, kUnpin } kind = kInsert;
  bool peer = false;   // session
  bool other = false;  // content
  Tokens tokens;
  uint32_t choice = 0;
};

rc::Gen<Call> any_call() {
  using Kind = Call::Kind;
  const auto tokens = rc::gen::mapcat(
      rc::gen::inRange<size_t>(0, 6 * kTokensPerBlock),
      [](size_t n) { return rc::gen::container<Tokens>(n, rc::gen::inRange<TokenId>(0, 2)); });
  return rc::gen::build<Call>(
      rc::gen::set(&Call::kind, rc::gen::weightedElement<Kind>({{6, Call::kInsert},
                                                                {4, Call::kMatch},
                                                                {1, Call::kErase},
                                                                {1, Call::kEraseBlock},
                                                                {2, Call::kEvict},
                                                                {5, Call::kUnpin}})),
      rc::gen::set(&Call::peer), rc::gen::set(&Call::other), rc::gen::set(&Call::tokens, tokens),
      rc::gen::set(&Call::choice, rc::gen::inRange<uint32_t>(0, 1000)));
}

/// Drives an index and a map with the same calls. Thread: confined.
class Pair {
 public:
  void step(const Call& call) {
    ++now_;
    switch (call.kind) {
      case Call::kInsert:
        return insert(call);
      case Call::kMatch:
        return match(call);
      case Call::kErase:
        return erase(call);
      case Call::kEraseBlock:
        return erase_block(call);
      case Call::kEvict:
        return evict(call.choice % 8);
      case Call::kUnpin:
        return unpin(call.choice);
    }
  }

  void compare() const {
    RC_ASSERT(index_.audit().to_string() == "OK");
    RC_ASSERT(pool_->audit().status().to_string() == "OK");
    RC_ASSERT(index_.blocks() == model_.size());
    std::set<Prefix> keys;
    std::set<BlockAddress> published;
    for (const auto& [key, held] : model_) {
      keys.insert(key);
      published.insert(held.address);
      RC_ASSERT(index_.peek({{key.first, {}}, key.second}) == key.second.size());
    }
    RC_ASSERT(replayer_.held() == keys);
    std::set<BlockAddress> held = published;
    for (const auto& pins : pins_) held.insert(pins.blocks.begin(), pins.blocks.end());
    RC_ASSERT(pool_->free_blocks() == kPoolBlocks - held.size());
  }

 private:
  struct Held {
    BlockAddress address;
    uint64_t last_use = 0;
  };
  struct Pins {
    SessionId session;
    std::vector<BlockAddress> blocks;
  };

  static SessionId session(const Call& call) { return call.peer ? kPeer : kCallerSession; }
  const Content& content(const Call& call) const { return contents_[call.other]; }

  /// Insert with new blocks, save where bits of `choice` take the published address.
  void insert(const Call& call) {
    const size_t count = call.tokens.size() / kTokensPerBlock;
    Pins fresh{session(call), {}};
    std::vector<BlockAddress> list;
    std::vector<BlockAddress> serving;
    std::vector<size_t> duplicates;
    if (pool_->free_blocks() < count) return;
    for (size_t i = 0; i < count; ++i) {
      const auto found = model_.find(prefix(content(call).id, call.tokens, i + 1));
      if (found != model_.end() && (call.choice >> i) % 2 == 0) {
        list.push_back(found->second.address);
      } else {
        RC_ASSERT(pool_->alloc(fresh.session, 1, BlockState::kWriting, fresh.blocks).ok());
        list.push_back(fresh.blocks.back());
      }
      serving.push_back(found == model_.end() ? list.back() : found->second.address);
      if (serving.back() != list.back()) duplicates.push_back(i);
    }
    const auto outcome = index_.insert(fresh.session, {content(call), call.tokens}, list);
    RC_ASSERT(outcome.status().to_string() == "OK");
    RC_ASSERT(outcome->serving == serving);
    RC_ASSERT(outcome->duplicates == duplicates);
    for (size_t i = 0; i < count; ++i) {
      model_[prefix(content(call).id, call.tokens, i + 1)] = {serving[i], now_};
    }
    pins_.push_back(fresh);
  }

  void match(const Call& call) {
    std::vector<BlockAddress> expected;
    for (size_t i = 1; i <= call.tokens.size() / kTokensPerBlock; ++i) {
      const auto found = model_.find(prefix(content(call).id, call.tokens, i));
      if (found == model_.end()) break;
      expected.push_back(found->second.address);
      found->second.last_use = now_;
    }
    Pins pins{session(call), {}};
    const size_t tokens = index_.match(pins.session, {content(call), call.tokens}, pins.blocks);
    RC_ASSERT(tokens == expected.size() * kTokensPerBlock);
    RC_ASSERT(pins.blocks == expected);
    pins_.push_back(pins);
  }

  void erase(const Call& call) {
    const Prefix end = prefix(content(call).id, call.tokens, call.tokens.size() / kTokensPerBlock);
    const size_t gone = model_.contains(end) ? forget(end) : 0;
    RC_ASSERT(index_.erase({content(call), call.tokens}) == gone);
  }

  void erase_block(const Call& call) {
    const uint32_t block = call.choice % kPoolBlocks;
    const auto found = std::ranges::find_if(
        model_, [&](const auto& each) { return each.second.address.index() == block; });
    const size_t gone = found == model_.end() ? 0 : forget(Prefix(found->first));
    RC_ASSERT(index_.erase_blocks({&block, 1}) == gone);
  }

  size_t forget(const Prefix& end) {
    return std::erase_if(model_, [&](const auto& each) { return continues(each.first, end); });
  }

  /// Nobody pins the prefix or anything that continues it.
  bool evictable(const Prefix& key) const {
    return std::ranges::none_of(model_, [&](const auto& each) {
      return continues(each.first, key) && is_pinned(each.second.address);
    });
  }
  bool is_pinned(const BlockAddress& address) const {
    return std::ranges::any_of(
        pins_, [&](const Pins& pins) { return std::ranges::count(pins.blocks, address) > 0; });
  }

  /// Which of several equal blocks goes is the index's choice, so the model follows it, and checks
  /// what every choice must keep.
  void evict(size_t count) {
    const auto possible = static_cast<size_t>(
        std::ranges::count_if(model_, [&](const auto& each) { return evictable(each.first); }));
    RC_ASSERT(index_.evict(count) == std::min(count, possible));
    uint64_t latest_gone = 0;
    std::erase_if(model_, [&](const auto& each) {
      const auto& [key, held] = each;
      if (index_.peek({{key.first, {}}, key.second}) == key.second.size()) return false;
      RC_ASSERT(!is_pinned(held.address));
      latest_gone = std::max(latest_gone, held.last_use);
      return true;
    });
    for (const auto& [key, held] : model_) {
      RC_ASSERT(!evictable(key) || held.last_use >= latest_gone);
    }
  }

  void unpin(uint32_t choice) {
    if (pins_.empty()) return;
    const auto pins = pins_.begin() + choice % pins_.size();
    RC_ASSERT(pool_->unpin(pins->session, pins->blocks).to_string() == "OK");
    pins_.erase(pins);
  }

  const std::array<Content, 2> contents_ = {test_content("one"), test_content("other")};
  std::unique_ptr<BlockPool> pool_ = test_pool();
  Replayer replayer_;
  LocalIndex index_{*pool_, lru(), [this](const ChangeRecord& record) { replayer_.apply(record); }};
  std::map<Prefix, Held> model_;
  std::vector<Pins> pins_;
  uint64_t now_ = 0;
};

RC_GTEST_PROP(LocalIndexModel, any_calls_leave_the_index_as_a_plain_map_would_be, ()) {
  Pair pair;
  for (const Call& call : *rc::gen::scale(4, rc::gen::container<std::vector<Call>>(any_call()))) {
    pair.step(call);
    pair.compare();
  }
}

}  // namespace
}  // namespace mempool
