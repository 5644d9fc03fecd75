// SPDX-License-Identifier: Apache-2.0
// Owns what an engine does with places: has peers hold blocks or tell of their own, sends to them,
// and gives back.
#include <algorithm>
#include <utility>

#include "tests/simulation/engine.h"
#include "tests/simulation/instance.h"
#include "tests/simulation/simulated_content.h"

namespace mempool::simulation {
namespace {

constexpr size_t kMostLent = 8;

/// Move up to `count` addresses from the end of one list to that of another.
void move_some(std::vector<BlockAddress>& from, std::vector<BlockAddress>& to, size_t count) {
  for (; count > 0 && !from.empty(); --count, from.pop_back()) to.push_back(from.back());
}

}  // namespace

void Engine::transfer_to_places(HoldId id, const std::string& peer, Duration time) {
  const size_t count = holds_.at(id).blocks.size();
  Places& known = places_[peer];
  if (known.held.size() + known.told.size() < count) {
    if (run_.random().chance(0.5)) {
      have_held(peer, count, time);
    } else {
      have_lent(peer, count);
    }
    return;
  }
  const Places before = known;
  std::vector<BlockAddress> places;
  move_some(known.held, places, run_.random().below(count + 1));
  move_some(known.told, places, count - places.size());
  move_some(known.held, places, count - places.size());
  if (transfer(id, peer, time, std::move(places)) == 0) places_[peer] = before;
}

void Engine::have_held(const std::string& peer, size_t count, Duration time) {
  TransferRequest request;
  request.content.model = simulated_contents().front().model;
  request.reserve = static_cast<uint32_t>(count);
  request.deadline = run_.now() + time;
  const auto id = instance_.source().start(peer, std::move(request), run_.now());
  if (id.ok()) {
    run_.trace("{} asks {} to hold {} blocks, transfer {}", instance_.name(), peer, count, *id);
    asks_[*id] = {peer, count, run_.now() + time};
  } else if (id.status().code() != StatusCode::kResourceExhausted) {
    run_.fail(instance_.name() + ", an ask: " + id.status().to_string());
  }
}

void Engine::end_ask(TransferId transfer, const EndCall& end) {
  const Ask ask = asks_.at(transfer);
  asks_.erase(transfer);
  run_.trace("{} ends ask {}: {}", instance_.name(), transfer, end.status.to_string());
  if (!end.status.ok()) return;
  const std::vector<BlockAddress>& held = end.report.serving;
  if (held.size() != ask.count) run_.fail(instance_.name() + " asked for another count of blocks");
  std::vector<BlockAddress>& known = places_[ask.peer].held;
  known.insert(known.end(), held.begin(), held.end());
}

void Engine::have_lent(const std::string& peer, size_t count) {
  Network& network = instance_.network();
  const uint32_t here = network.place(instance_.name());
  const uint32_t there = network.place(peer);
  network.deliver(here, there, run_.draw(run_.options().control), [=, this, &network] {
    Instance* lender = network.find(peer);
    if (lender == nullptr) return;
    lender->in_process([=, this, &network] {
      const std::vector<BlockAddress> lent = lender->engine().lend(count);
      network.deliver(there, here, run_.draw(run_.options().control), [=, this] {
        instance_.in_process([=, this] {
          std::vector<BlockAddress>& known = places_[peer].told;
          known.insert(known.end(), lent.begin(), lent.end());
        });
      });
    });
  });
}

std::vector<BlockAddress> Engine::lend(size_t count) {
  BlockPool& pool = instance_.pool();
  std::vector<BlockAddress> blocks;
  if (lent_.size() + count > kMostLent) return blocks;
  if (count > pool.free_blocks()) instance_.index().evict(count - pool.free_blocks());
  (void)pool.alloc(kCallerSession, count, BlockState::kWriting, blocks);  // no room: none
  instance_.poison_freed();
  lent_.insert(lent_.end(), blocks.begin(), blocks.end());
  return blocks;
}

/// Whoever was told of them finds them stale, or is filling them and goes on.
void Engine::take_back_lent() {
  run_.expect(instance_.pool().unpin(kCallerSession, std::exchange(lent_, {})),
              instance_.name() + ", lent blocks");
  instance_.poison_freed();
}

/// Refused for now, the call has left those of its places that were held to the engine; which they
/// are shows when it gives them back.
void Engine::keep_places(const Ledger::Entry& call) {
  std::vector<BlockAddress>& known = places_[call.target].held;
  known.insert(known.end(), call.places.begin(), call.places.end());
  if (operations_left_ == 0) give_back_held(call.target);
}

/// They may have gone with a session that the engine does not know of.
void Engine::give_back_held(const std::string& peer) {
  const std::vector<BlockAddress> held = std::exchange(places_[peer].held, {});
  for (const BlockAddress& block : held) {
    const Status status = instance_.source().release(kCallerSession, {&block, 1}, run_.now());
    if (status.ok() || status.code() == StatusCode::kStale) continue;
    run_.fail(instance_.name() + " gives back: " + status.to_string());
  }
}

}  // namespace mempool::simulation
