// SPDX-License-Identifier: Apache-2.0
// Owns the engine's operations.
#include "tests/simulation/engine.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "core/checksum.h"
#include "tests/simulation/instance.h"
#include "tests/simulation/protocol_times.h"
#include "tests/simulation/simulated_content.h"

namespace mempool::simulation {
namespace {

constexpr size_t kMostBlocks = 5;  // of a prompt
constexpr size_t kMostHolds = 4;

}  // namespace

void Engine::start(std::vector<std::string> peers, uint32_t operations) {
  peers_ = std::move(peers);
  operations_left_ = operations;
  next_operation();
}

void Engine::next_operation() {
  if (operations_left_ == 0) return;
  --operations_left_;
  run_.after(run_.draw_around(run_.options().pace), [this] {
    instance_.in_process([this] {
      operate();
      next_operation();
    });
  });
}

void Engine::operate() {
  Random& random = run_.random();
  if (holds_.size() >= kMostHolds) release(some_hold());
  const uint64_t dice = random.below(100);
  if (dice < 30) {
    const HoldId id = prefill(random.chance(0.7));
    if (id != 0 && random.chance(0.7)) insert(holds_.at(id));
  } else if (dice < 65) {
    const HoldId id = some_hold();
    const bool hurried = random.chance(run_.options().short_deadlines);
    const Duration time = run_.draw_around(hurried ? kRetransmit / 8 : kLongestDeadline / 2);
    const std::string& peer = peers_[random.below(peers_.size())];
    if (random.chance(0.25)) {
      fetch(peer, time);
    } else if (id != 0 && random.chance(0.4)) {
      transfer_to_places(id, peer, time);
    } else if (id != 0) {
      transfer(id, peer, time);
    }
  } else if (dice < 70) {
    if (const HoldId id = some_hold(); id != 0) insert(holds_.at(id));
  } else if (dice < 75) {
    cancel_one();
  } else if (dice < 87) {
    receive();
  } else if (dice < 90) {
    erase_one();
  } else if (dice < 93) {
    try_dead_address();
  } else if (dice < 95) {
    give_back_held(peers_[random.below(peers_.size())]);
  } else if (dice < 97) {
    take_back_lent();
  } else {
    release(some_hold());
  }
}

Engine::HoldId Engine::some_hold() {
  if (holds_.empty()) return 0;
  return std::next(holds_.begin(), static_cast<long>(run_.random().below(holds_.size())))->first;
}

Engine::HoldId Engine::prefill(bool reuse) {
  BlockPool& pool = instance_.pool();
  Hold hold;
  hold.content = simulated_contents()[run_.random().below(simulated_contents().size())];
  hold.tokens = draw_tokens(run_.random(), kMostBlocks);
  const size_t block_tokens = pool.shape().tokens_per_block;
  const size_t wanted = (hold.tokens.size() + block_tokens - 1) / block_tokens;
  if (reuse) {
    instance_.index().match(kCallerSession, {hold.content, hold.tokens}, hold.blocks);
    hold.inserted = !hold.blocks.empty();
  }
  const size_t matched = hold.blocks.size();
  const size_t missing = wanted - matched;
  make_room(missing);
  if (!pool.alloc(kCallerSession, missing, BlockState::kWriting, hold.blocks).ok()) {
    run_.expect(pool.unpin(kCallerSession, hold.blocks), "unpin of a match");
    return 0;
  }
  instance_.poison_freed();
  for (size_t i = matched; i < wanted; ++i) {
    write_kv(pool, hold.blocks[i].index(), hold.content, hold.tokens, i);
  }
  check_hold(hold, "a match");
  holds_.emplace(next_hold_, std::move(hold));
  return next_hold_++;
}

/// As alloc() does, which is no tenant's own need: each floor stays.
void Engine::make_room(size_t blocks) {
  LocalIndex& index = instance_.index();
  const auto held = [&index] {
    uint64_t blocks = 0;
    for (const TenantShare& share : index.tenants().listed()) blocks += share.published;
    return blocks;
  };
  const uint64_t before = held();
  run_.expect(index.make_room(blocks), instance_.name() + ", room in the pool");
  if (held() < std::min<uint64_t>(before, run_.options().floor)) {
    run_.fail(fmt::format("{}: {} of {} blocks of a tenant were left, its floor is {}",
                          instance_.name(), held(), before, run_.options().floor));
  }
}

void Engine::insert(Hold& hold) {
  if (hold.making) return;
  BlockPool& pool = instance_.pool();
  const size_t whole = hold.tokens.size() / pool.shape().tokens_per_block;
  const auto blocks = std::span(hold.blocks).first(whole);
  std::vector<Seal> seals;
  for (size_t i = 0; i < whole; ++i) {
    if (!picks(run_.options().verify, blocks[i].index(), blocks[i].generation)) continue;
    seals.push_back({i, block_checksum(pool.views(blocks[i].index()))});
  }
  const auto outcome =
      instance_.index().insert(kCallerSession, {hold.content, hold.tokens}, blocks, seals);
  const bool over_quota = outcome.status().code() == StatusCode::kResourceExhausted;
  if (!over_quota || run_.options().quota == 0) {
    run_.expect(outcome.status(), instance_.name() + ", an insert");
  }
  if (!outcome.ok()) return;
  hold.inserted = hold.inserted || whole > 0;
  if (instance_.index().peek({hold.content, hold.tokens}) !=
      whole * pool.shape().tokens_per_block) {
    run_.fail(instance_.name() + ": what was inserted does not match");
  }
}

uint64_t Engine::transfer(HoldId id, const std::string& peer, Duration time,
                          std::vector<BlockAddress> places) {
  Hold& hold = holds_.at(id);
  if (hold.making) return 0;  // its blocks are not ready
  TransferRequest request;
  request.content = hold.content;
  request.tokens = hold.tokens;
  request.blocks = hold.blocks;
  request.deadline = run_.now() + time;
  request.by_layer = run_.random().chance(0.3);
  const bool by_layer = request.by_layer;
  if (by_layer && !hold.inserted && hold.calls == 0) {
    hold.making = true;
    for (const BlockAddress& block : hold.blocks) poison(instance_.pool(), block.index());
  } else if (!by_layer) {
    request.sums = sums_of(hold.blocks);
  }
  if (!places.empty()) {
    request.content.id = {};
    request.tokens.clear();
    request.places = places;
  }
  const uint64_t ledger_id = ledger_.open(
      {instance_.name(), peer, hold.content, hold.tokens, std::move(places), request.deadline});
  request.request_id = ledger_id;
  const auto started = instance_.source().start(peer, std::move(request), run_.now());
  if (!started.ok()) {
    if (std::exchange(hold.making, false)) make(hold, {});
    ledger_.abandon(ledger_id);
    if (started.status().code() != StatusCode::kResourceExhausted) {
      run_.fail(instance_.name() + ", a transfer: " + started.status().to_string());
    }
    return 0;
  }
  run_.trace("{} starts call {} to {}, transfer {}, {} tokens, {} places", instance_.name(),
             ledger_id, peer, *started, hold.tokens.size(), ledger_.entry(ledger_id).places.size());
  ++hold.calls;
  calls_[*started] = {ledger_id, id, run_.now() + time, hold};
  if (by_layer) next_layer(*started);
  return ledger_id;
}

std::vector<SealedSum> Engine::sums_of(std::span<const BlockAddress> blocks) const {
  std::vector<SealedSum> sums;
  for (uint32_t i = 0; i < blocks.size(); ++i) {
    const BlockAddress& block = blocks[i];
    if (!picks(run_.options().verify, block.index(), block.generation)) continue;
    sums.push_back({i, block_checksum(instance_.pool().views(block.index()))});
  }
  return sums;
}

/// A layer's time is over: hand it over, and behind the last one commit. An engine that has given a
/// call up forgets it in the middle.
void Engine::next_layer(TransferId transfer) {
  run_.after(run_.draw(run_.options().data), [this, transfer] {
    instance_.in_process([this, transfer] {
      const auto it = calls_.find(transfer);
      if (it == calls_.end()) return;
      Call& call = it->second;
      SourceMachine& machine = instance_.source();
      if (call.layers < simulated_shape().layers) {
        const LayerRange layer{call.layers++, 1};
        if (call.sent.making) make(call.sent, layer);
        run_.expect(machine.hand_over(transfer, layer), "a layer");
        machine.on_layers_ready(transfer, layer);
        next_layer(transfer);
      } else {
        run_.expect(machine.check_commit(transfer), "a commit");
        machine.commit(transfer, sums_of(call.sent.blocks), run_.now());
      }
    });
  });
}

void Engine::fetch(const std::string& peer, Duration time) {
  BlockPool& pool = instance_.pool();
  Fetch fetch;
  Hold& missing = fetch.missing;
  missing.content = simulated_contents()[run_.random().below(simulated_contents().size())];
  missing.tokens = draw_tokens(run_.random(), kMostBlocks);
  const size_t whole = missing.tokens.size() / pool.shape().tokens_per_block;
  missing.tokens.resize(whole * pool.shape().tokens_per_block);
  if (whole == 0) return;
  fetch.here = missing;
  instance_.index().match(kCallerSession, {missing.content, missing.tokens}, fetch.here.blocks);
  const size_t count = whole - fetch.here.blocks.size();
  const uint64_t tenant = missing.content.tenant;
  Status started = instance_.index().make_room(count, tenant, whole);
  TransferRequest request;
  request.fetch = true;
  request.have = static_cast<uint32_t>(fetch.here.blocks.size());
  request.content = missing.content;
  request.tokens = missing.tokens;
  request.deadline = fetch.deadline = run_.now() + time;
  if (started.ok()) {
    started = pool.alloc(kCallerSession, count, BlockState::kWriting, missing.blocks);
  }
  instance_.poison_freed();
  if (started.ok()) {
    request.blocks = missing.blocks;
    const auto id = instance_.source().start(peer, std::move(request), run_.now());
    started = id.status();
    if (id.ok()) {
      run_.trace("{} fetches {} blocks from {}, transfer {}", instance_.name(), count, peer, *id);
      fetches_.emplace(*id, std::move(fetch));
      instance_.index().await(tenant, count);
      return;
    }
  }
  if (started.code() != StatusCode::kResourceExhausted) {
    run_.fail(instance_.name() + ", a fetch: " + started.to_string());
  }
  run_.expect(pool.unpin(kCallerSession, fetch.here.blocks), "unpin of what was here");
  run_.expect(pool.unpin(kCallerSession, missing.blocks), "unpin of places");
  instance_.poison_freed();
}

void Engine::end_fetch(const Fetch& fetch, const EndCall& end) {
  BlockPool& pool = instance_.pool();
  run_.trace("{} ends fetch {}: {}, {} blocks", instance_.name(), end.transfer,
             end.status.to_string(), end.fetched);
  instance_.index().unawait(fetch.missing.content.tenant, fetch.missing.blocks.size());
  if (end.status.ok()) {
    Hold brought = fetch.here;
    const auto filled = std::span(fetch.missing.blocks).first(end.fetched);
    brought.blocks.insert(brought.blocks.end(), filled.begin(), filled.end());
    brought.tokens.resize(brought.blocks.size() * pool.shape().tokens_per_block);
    check_hold(brought, "a fetch");
    if (!brought.blocks.empty()) insert(brought);
  } else if (end.fetched != 0) {
    run_.fail(instance_.name() + ": a fetch that failed brought blocks");
  }
  run_.expect(pool.unpin(kCallerSession, fetch.here.blocks), "unpin of what was here");
  run_.expect(pool.unpin(kCallerSession, fetch.missing.blocks), "unpin of what was fetched");
  instance_.poison_freed();
}

void Engine::end_call(const EndCall& end) {
  const TransferId transfer = end.transfer;
  const Status& status = end.status;
  if (const auto it = fetches_.find(transfer); it != fetches_.end()) {
    const Fetch fetch = std::move(it->second);
    fetches_.erase(it);
    end_fetch(fetch, end);
    return;
  }
  if (asks_.contains(transfer)) return end_ask(transfer, end);
  const auto it = calls_.find(transfer);
  if (it == calls_.end()) {
    run_.fail(fmt::format("{}: transfer {} ended and was not open", instance_.name(), transfer));
    return;
  }
  const Call call = it->second;
  calls_.erase(it);
  run_.trace("{} ends call {}: {}", instance_.name(), call.ledger_id, status.to_string());
  if (status.retry_after_ms() > 0) keep_places(ledger_.entry(call.ledger_id));
  ledger_.end(call.ledger_id, status, end.report, instance_.runs_since());
  const auto hold = holds_.find(call.hold);
  if (hold == holds_.end()) return;
  --hold->second.calls;
  if (std::exchange(hold->second.making, false))
    make(hold->second, {});  // prefill goes on to its end
  // From here on the engine may do with its blocks what it likes.
  if (operations_left_ == 0) return;
  if (run_.random().chance(0.4)) {
    release(call.hold);
    prefill(false);
  } else if (hold->second.calls == 0 && !hold->second.inserted) {
    rewrite(hold->second);
  }
}

/// Put another prompt of the same length into blocks that no index has seen.
void Engine::rewrite(Hold& hold) {
  for (TokenId& token : hold.tokens) token += 100;
  for (size_t i = 0; i < hold.blocks.size(); ++i) {
    write_kv(instance_.pool(), hold.blocks[i].index(), hold.content, hold.tokens, i);
  }
}

void Engine::make(const Hold& hold, std::optional<LayerRange> layers) {
  for (size_t i = 0; i < hold.blocks.size(); ++i) {
    write_kv(instance_.pool(), hold.blocks[i].index(), hold.content, hold.tokens, i, layers);
  }
}

void Engine::cancel_one() {
  if (calls_.empty()) return;
  const auto at = static_cast<long>(run_.random().below(calls_.size()));
  const auto& [transfer, call] = *std::next(calls_.begin(), at);
  run_.trace("{} cancels call {}", instance_.name(), call.ledger_id);
  instance_.source().cancel(transfer, run_.now());
}

void Engine::deliver(Arrival arrival) {
  run_.trace("{} has the arrival of call {}", instance_.name(), arrival.request_id);
  ledger_.arrive(arrival);
  for (const BlockAddress& block : arrival.blocks) {
    if (instance_.pool().pins_of(kCallerSession, block.index()) > 0) continue;
    run_.fail(fmt::format("{}: block {} of an arrival is not its engine's", instance_.name(),
                          block.index()));
  }
  if (arrival.tokens.empty()) {  // the sender has told what it sends
    const Ledger::Entry& sent = ledger_.entry(arrival.request_id);
    arrival.content = sent.content;
    arrival.tokens = sent.tokens;
    std::erase_if(lent_, [&](const BlockAddress& block) {
      return std::ranges::find(arrival.blocks, block) != arrival.blocks.end();
    });
  }
  check_hold({arrival.content, arrival.tokens, arrival.blocks}, "an arrival");
  arrivals_.push_back(std::move(arrival));
}

void Engine::receive() {
  if (arrivals_.empty()) return;
  Arrival arrival = std::move(arrivals_.front());
  arrivals_.pop_front();
  instance_.target().on_received();
  holds_[next_hold_++] = {arrival.content, std::move(arrival.tokens), std::move(arrival.blocks),
                          true};
}

void Engine::erase_one() {
  const Content& content = simulated_contents()[run_.random().below(simulated_contents().size())];
  const std::vector<TokenId> tokens = draw_tokens(run_.random(), kMostBlocks);
  instance_.index().erase({content, tokens});
}

void Engine::try_dead_address() {
  const std::vector<BlockAddress>& dead = instance_.dead_addresses();
  if (dead.empty()) return;
  const BlockAddress block = dead[run_.random().below(dead.size())];
  TransferRequest request;
  request.content = simulated_contents().front();
  request.tokens = {1};
  request.blocks = {block};
  request.deadline = run_.now() + kLongestDeadline;
  for (const Status& status :
       {instance_.pool().pin(kCallerSession, {&block, 1}),
        instance_.pool().free(kCallerSession, {&block, 1}),
        instance_.source().release(kCallerSession, {&block, 1}, run_.now()),
        instance_.source().start(peers_.front(), std::move(request), run_.now()).status()}) {
    const StatusCode code = status.code();
    if (code != StatusCode::kStale && code != StatusCode::kResourceExhausted) {
      run_.fail(fmt::format("{}: dead address {} gives {}", instance_.name(), to_string(block),
                            status.to_string()));
    }
  }
}

void Engine::release(HoldId id) {
  const auto it = holds_.find(id);
  if (it == holds_.end()) return;
  run_.expect(instance_.pool().unpin(kCallerSession, it->second.blocks),
              instance_.name() + ", a release");
  holds_.erase(it);
  instance_.poison_freed();
}

uint64_t Engine::send_one(const std::string& peer, Duration time) {
  const HoldId id = prefill(false);
  return id == 0 ? 0 : transfer(id, peer, time);
}

void Engine::release_all() {
  while (!arrivals_.empty()) receive();
  while (!holds_.empty()) release(holds_.begin()->first);
  take_back_lent();
  for (const std::string& peer : peers_) give_back_held(peer);
}

void Engine::abandon() {
  for (const auto& [transfer, call] : calls_) ledger_.abandon(call.ledger_id);
  calls_.clear();
  fetches_.clear();
  asks_.clear();
}

void Engine::check_calls() {
  for (const auto& [transfer, call] : calls_) {
    if (run_.now() <= std::max(call.deadline, instance_.runs_since()) + kStopGrace) continue;
    run_.fail(
        fmt::format("{}: call {} is open past its deadline", instance_.name(), call.ledger_id));
  }
  for (const auto& [transfer, fetch] : fetches_) {
    if (run_.now() <= std::max(fetch.deadline, instance_.runs_since()) + kStopGrace) continue;
    run_.fail(fmt::format("{}: fetch {} is open past its deadline", instance_.name(), transfer));
  }
  for (const auto& [transfer, ask] : asks_) {
    if (run_.now() <= std::max(ask.deadline, instance_.runs_since()) + kStopGrace) continue;
    run_.fail(fmt::format("{}: ask {} is open past its deadline", instance_.name(), transfer));
  }
}

void Engine::check_held() {
  for (const auto& [id, hold] : holds_) {
    if (!hold.making) check_hold(hold, "a held prompt");
  }
  for (const Arrival& arrival : arrivals_) {
    check_hold({arrival.content, arrival.tokens, arrival.blocks}, "an arrival");
  }
}

void Engine::check_hold(const Hold& hold, const std::string& what) {
  for (size_t i = 0; i < hold.blocks.size(); ++i) {
    run_.expect(instance_.pool().check(hold.blocks[i]), instance_.name() + ", " + what);
    if (has_kv(instance_.pool(), hold.blocks[i].index(), hold.content, hold.tokens, i)) continue;
    run_.fail(fmt::format("{}: block {} of {} has not its tokens' bytes", instance_.name(),
                          hold.blocks[i].index(), what));
  }
}

}  // namespace mempool::simulation
