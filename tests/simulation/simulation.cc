// SPDX-License-Identifier: Apache-2.0
// Owns the course of a run: work, disturbances, healing, demands.
#include "tests/simulation/simulation.h"

#include "tests/simulation/engine.h"
#include "tests/simulation/protocol_times.h"

namespace mempool::simulation {
namespace {

constexpr Duration kCheckEvery = std::chrono::milliseconds(20);
constexpr Duration kLongestStop = std::chrono::milliseconds(800);
// Longer than any deadline, timeout and delay one after the other.
constexpr Duration kSettling = std::chrono::milliseconds(4000);

}  // namespace

Simulation::Simulation(const SimulationOptions& options, bool traced)
    : run_(options, traced), ledger_(run_), network_(run_), live_(options.instances) {
  for (uint32_t place = 0; place < options.instances; ++place) {
    names_.push_back(std::string(1, static_cast<char>('a' + place)));
  }
}

std::string Simulation::run() {
  const SimulationOptions& options = run_.options();
  for (uint32_t place = 0; place < options.instances; ++place) start_instance(place);
  check_at_intervals();
  disturb_at_intervals();
  run_.run_for(options.operations * options.pace);
  if (!run_.failed()) heal();
  if (!run_.failed()) demand_quiet();
  if (!run_.failed()) demand_everything_back();
  if (!run_.failed()) demand_work();
  if (!run_.failed()) demand_everything_back();
  return run_.failure();
}

void Simulation::start_instance(uint32_t place) {
  const uint64_t incarnation = run_.random().next() | 1;
  lives_.push_back(std::make_unique<Instance>(run_, network_, ledger_, names_[place], incarnation));
  Instance& instance = *lives_.back();
  if (live_[place] != nullptr) instance.inherit(*live_[place]);
  live_[place] = &instance;
  network_.attach(instance);
  std::vector<std::string> peers = names_;
  std::erase(peers, names_[place]);
  instance.engine().start(peers, working_ ? run_.options().operations : 0);
}

void Simulation::check_at_intervals() {
  run_.after(kCheckEvery, [this] {
    for (Instance* instance : live_) instance->check_all();
    check_at_intervals();
  });
}

void Simulation::disturb_at_intervals() {
  if (run_.options().disturb_every == Duration(0)) return;
  run_.after(run_.draw_around(run_.options().disturb_every), [this] {
    if (!working_) return;
    disturb();
    disturb_at_intervals();
  });
}

void Simulation::disturb() {
  Random& random = run_.random();
  const auto place = static_cast<uint32_t>(random.below(live_.size()));
  Instance* instance = live_[place];
  const uint64_t dice = random.below(100);
  if (dice < 35) {
    instance->stop();
    run_.after(run_.draw_around(kLongestStop / 2), [instance] { instance->resume(); });
  } else if (dice < 60) {
    swizzle_clog();
  } else if (dice < 85) {
    network_.break_one();
  } else if (instance->alive()) {
    instance->kill();
    run_.after(run_.draw_around(kPeerTimeout), [this, place, instance] {
      if (live_[place] == instance) start_instance(place);
    });
  }
}

void Simulation::swizzle_clog() {
  for (uint32_t from = 0; from < live_.size(); ++from) {
    for (uint32_t to = 0; to < live_.size(); ++to) {
      if (from == to || !run_.random().chance(0.4)) continue;
      network_.clog(from, to);
      run_.after(run_.draw_around(kLongestStop / 2),
                 [this, from, to] { network_.unclog(from, to); });
    }
  }
}

void Simulation::heal() {
  run_.trace("healing: no operation from now on, and no fault but lost and doubled messages");
  working_ = false;
  run_.heal();
  network_.unclog_all();
  for (uint32_t place = 0; place < live_.size(); ++place) {
    live_[place]->resume();
    if (!live_[place]->alive()) start_instance(place);
  }
  run_.run_for(kSettling);
}

/// Every call has ended at both ends, and nothing waits for anyone.
void Simulation::demand_quiet() {
  for (Instance* instance : live_) {
    if (instance->engine().open_calls() != 0) run_.fail(instance->name() + " has an open call");
    if (instance->source().open() != 0)
      run_.fail(instance->name() + " has an open outbound transfer");
    if (instance->target().open() != 0)
      run_.fail(instance->name() + " has an open inbound transfer");
    for (const TenantShare& share : instance->index().tenants().all()) {
      if (share.awaited != 0) run_.fail(instance->name() + " awaits blocks of no transfer");
    }
    const PoolAudit audit = instance->pool().audit().value();
    for (const auto& [writer, blocks] : audit.quarantine) {
      // A block that arrived corrupt stays aside as long as the session that brought it.
      if (writer.ends_with("(checksum)")) continue;
      if (writer == kAwaitingUnpin) continue;  // lent; its engine lets go below
      run_.fail(fmt::format("{}: {} blocks are still in quarantine for {}", instance->name(),
                            blocks, writer));
    }
    instance->in_process([instance] { instance->engine().release_all(); });
  }
}

/// Everyone can send to everyone, over sessions made anew.
void Simulation::demand_work() {
  for (Instance* source : live_) {
    for (Instance* target : live_) {
      if (source == target || run_.failed()) continue;
      uint64_t id = 0;
      source->in_process([&] { id = source->engine().send_one(target->name(), kSettling); });
      if (id == 0) return run_.fail(source->name() + " holds nothing and finds no room");
      const Ledger::Entry& call = ledger_.entry(id);
      while (!run_.failed() && !call.ended) run_.run_for(kRetransmit);
      if (!call.status.ok()) {
        run_.fail(fmt::format("after healing, {} cannot send to {}: {}", call.source, call.target,
                              call.status.to_string()));
      }
      for (Instance* end : {source, target}) {
        end->in_process([end] { end->engine().release_all(); });
      }
    }
  }
}

/// With callers and sessions gone, each block is free or published, and nobody pins one.
void Simulation::demand_everything_back() {
  network_.break_all();
  run_.run_for(kSettling);
  for (Instance* instance : live_) {
    instance->check_all();
    const PoolAudit audit = instance->pool().audit().value();
    if (audit.pins != 0)
      run_.fail(fmt::format("{}: {} pins are left", instance->name(), audit.pins));
    const uint64_t back = audit.count(BlockState::kFree) + audit.count(BlockState::kPublished);
    if (back != audit.total) {
      run_.fail(fmt::format("{}: {} of {} blocks did not come back", instance->name(),
                            audit.total - back, audit.total));
    }
  }
}

}  // namespace mempool::simulation
