// SPDX-License-Identifier: Apache-2.0
// Owns the driving of the state machines in virtual time, and the audit after each step.
#include "tests/simulation/instance.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "agent/seal_sums.h"
#include "agent/told_segments.h"
#include "core/check.h"
#include "tests/simulation/data_plane.h"
#include "tests/simulation/engine.h"
#include "tests/simulation/protocol_times.h"
#include "tests/simulation/simulated_content.h"

namespace mempool::simulation {
namespace {

constexpr SessionId kOracleSession = UINT32_MAX;
constexpr size_t kMostDeadAddresses = 256;

std::unique_ptr<BlockPool> make_pool(Run& run, uint64_t incarnation) {
  PoolOptions options;
  options.shape = simulated_shape();
  options.placement.form = run.random().chance(0.5) ? BlockForm::kDiscrete : BlockForm::kAggregated;
  if (!run.options().one_order && run.random().chance(0.5)) {
    options.placement.order = TokenOrder::kHeadToken;
  }
  options.shards = run.options().shards != 0 ? run.options().shards : draw_shards(run.random());
  options.segment_blocks.assign(run.options().segments, run.options().segment_blocks);
  auto pool = BlockPool::create(options, incarnation);
  MEMPOOL_CHECK(pool.ok());
  return std::move(*pool);
}

SourceMachine::Options source_options(const SimulationOptions& of_run) {
  SourceMachine::Options options;
  options.max_open = 16;
  options.max_connections = of_run.max_connections;
  options.retransmit = kRetransmit;
  options.stop_grace = kStopGrace;
  return options;
}

TargetMachine::Options target_options(const SimulationOptions& of_run) {
  TargetMachine::Options options;
  options.model = simulated_contents().front().model;
  options.verify = of_run.verify;
  options.max_open = of_run.max_inbound;
  options.retransmit = kRetransmit;
  options.fence_timeout = kFenceTimeout;
  return options;
}

TenantRules tenant_rules(const SimulationOptions& of_run) {
  if (of_run.quota == 0 && of_run.floor == 0) return {};
  return {{{"red", simulated_contents().front().tenant, of_run.quota, of_run.floor}}, 1};
}

}  // namespace

Instance::Instance(Run& run, Network& network, Ledger& ledger, std::string name,
                   uint64_t incarnation)
    : run_(run),
      network_(network),
      name_(std::move(name)),
      incarnation_(incarnation),
      model_(simulated_shape().tokens_per_block),
      pool_(make_pool(run, incarnation)),
      index_(std::make_unique<LocalIndex>(
          *pool_, make_eviction_policy("lru").value(),
          [this](const ChangeRecord& record) { model_.apply(record); }, nullptr,
          tenant_rules(run.options()))),
      source_(std::make_unique<SourceMachine>(source_options(run.options()), *pool_)),
      target_(std::make_unique<TargetMachine>(target_options(run.options()), *pool_, *index_)),
      liveness_(kHeartbeat, kPeerTimeout),
      engine_(std::make_unique<Engine>(run, *this, ledger)),
      runs_since_(run.now()) {
  for (uint32_t block = 0; block < pool_->blocks(); ++block) {
    poison(*pool_, block);
    seen_.push_back(pool_->address(block));
  }
}

Instance::~Instance() = default;

PeerInfo Instance::introduction() const {
  PeerInfo info;
  info.name = name_;
  info.incarnation = incarnation_;
  info.model = simulated_contents().front().model;
  return info;
}

std::vector<PlanSegment> Instance::plan_segments() const {
  return mempool::plan_segments(*pool_);
}

// ---- the process -----------------------------------------------------------------------------

void Instance::stop() {
  if (!alive_ || stopped_) return;
  run_.trace("{} is stopped", name_);
  stopped_ = true;
}

void Instance::resume() {
  if (!alive_ || !std::exchange(stopped_, false)) return;
  run_.trace("{} goes on, {} events wait", name_, waiting_.size());
  runs_since_ = run_.now();
  for (const std::function<void()>& event : std::exchange(waiting_, {})) in_process(event);
}

void Instance::kill() {
  run_.trace("{} is killed", name_);
  alive_ = false;
  stopped_ = false;
  waiting_.clear();
  network_.detach(*this);
  engine_->abandon();
}

void Instance::in_process(const std::function<void()>& event) {
  if (!alive_ || run_.failed()) return;
  if (stopped_) {
    waiting_.push_back(event);
    return;
  }
  ++depth_;
  event();
  if (--depth_ == 0) settle();
}

void Instance::settle() {
  ++depth_;
  for (;;) {
    poison_freed();
    std::vector<Action> actions = source_->take_actions();
    std::ranges::move(target_->take_actions(), std::back_inserter(actions));
    if (actions.empty()) break;
    for (Action& action : actions) std::visit([this](auto& each) { carry_out(each); }, action);
  }
  --depth_;
  check_invariants();
  arm_timer();
}

void Instance::arm_timer() {
  const TimePoint next = std::min(source_->next_time(), target_->next_time());
  if (next >= armed_) return;
  armed_ = next;
  run_.at(next, [this, next] {
    in_process([this, next] {
      if (armed_ == next) armed_ = TimePoint::max();
      source_->on_time(run_.now());
      target_->on_time(run_.now());
    });
  });
}

// ---- sessions --------------------------------------------------------------------------------

void Instance::watch(SessionId session) {
  liveness_.add(session, run_.now());
  arm_pulse();
}

/// Heartbeats change no block: they run outside of in_process(), which audits.
void Instance::arm_pulse() {
  const TimePoint next = liveness_.next_time();
  if (next >= pulse_armed_) return;
  pulse_armed_ = next;
  run_.at(next, [this, next] {
    if (pulse_armed_ == next) pulse_armed_ = TimePoint::max();
    if (!alive_) return;
    if (stopped_) {
      waiting_.push_back([this] { beat(); });
    } else {
      beat();
    }
  });
}

void Instance::beat() {
  for (const SessionId session : liveness_.beats_due(run_.now())) {
    network_.send(*this, session, Heartbeat{++progress_});
  }
  for (const SessionId session : liveness_.lost(run_.now())) {
    in_process([this, session] { network_.give_up(*this, session); });
  }
  arm_pulse();
}

void Instance::take(SessionId session, Connection::Side side, const Message& message) {
  if (const auto* heartbeat = std::get_if<Heartbeat>(&message)) {
    liveness_.on_progress(session, heartbeat->progress, run_.now());
    return;
  }
  liveness_.on_heard(session, run_.now());
  in_process([this, session, side, &message] {
    if (side == Connection::kDialer) {
      source_->on_message(session, message, run_.now());
    } else {
      target_->on_message(session, message, run_.now());
    }
  });
}

// ---- what the machines ask for ---------------------------------------------------------------

void Instance::carry_out(DialPeer& action) {
  network_.dial(*this, action.peer);
}

void Instance::carry_out(SendMessage& action) {
  network_.send(*this, action.session, action.message);
}

void Instance::carry_out(PostData& action) {
  run_.trace("{} posts {} blocks of transfer {} on session {}", name_, action.local_blocks.size(),
             action.transfer, action.session);
  network_.data().post(*this, action);
}

void Instance::carry_out(PostLayers& action) {
  network_.data().post_layers(*this, action);
}

void Instance::carry_out(FinishData& action) {
  if (!action.resum.empty()) {
    Resum resum(*pool_, action);
    Result<bool> through = resum.step();
    while (through.ok() && !*through) through = resum.step();
    if (!through.ok()) {
      run_.fail(name_ + ": " + through.status().to_string());
      return;
    }
    source_->on_resummed(action.transfer, resum.take());
  }
  network_.data().finish(*this, action.transfer);
}

void Instance::carry_out(StopData& action) {
  run_.trace("{} stops the data of transfer {}", name_, action.transfer);
  network_.data().stop(*this, action.transfer);
}

void Instance::carry_out(EndCall& action) {
  engine_->end_call(action);
}

void Instance::carry_out(OpenSlot& action) {
  network_.data().open_slot(action.session, action.slot);
}

void Instance::carry_out(CloseSlot& action) {
  network_.data().close_slot(action.session, action.slot);
}

void Instance::carry_out(VerifyBlocks& action) {
  run_.after(run_.draw(run_.options().data), [this, verify = std::move(action)] {
    in_process([this, verify] {
      for (uint32_t block : verify.blocks) {
        if (pool_->state(block) != BlockState::kReserved) {
          run_.fail(name_ + " hashes a block that was taken from under the hash");
        }
      }
      SumCheck check(*pool_, verify.blocks, verify.sums);
      while (!check.step()) continue;
      target_->on_verified(verify.session, verify.number, check.bad());
    });
  });
}

void Instance::carry_out(VerifyFetch& action) {
  run_.after(run_.draw(run_.options().data), [this, verify = std::move(action)] {
    in_process([this, verify] {
      for (uint32_t block : verify.blocks) {
        if (pool_->pins_of(kAgentSession, block) == 0) {
          run_.fail(name_ + " hashes a place that its machine does not pin");
        }
      }
      SumCheck check(*pool_, verify);
      while (!check.step()) continue;
      source_->on_fetch_verified(verify.transfer, check.bad(), run_.now());
    });
  });
}

void Instance::carry_out(FencePeer& action) {
  network_.fence(*this, action.session);
}

void Instance::carry_out(CloseSession& action) {
  network_.close(*this, action.session);
}

void Instance::carry_out(DeliverArrival& action) {
  engine_->deliver(std::move(action.arrival));
}

// ---- the oracle ------------------------------------------------------------------------------

void Instance::poison_freed() {
  for (uint32_t block = 0; block < pool_->blocks(); ++block) {
    const BlockAddress address = pool_->address(block);
    if (address == seen_[block]) continue;
    dead_addresses_.push_back(std::exchange(seen_[block], address));
    poison(*pool_, block);
  }
  if (dead_addresses_.size() > 2 * kMostDeadAddresses) {
    dead_addresses_.erase(dead_addresses_.begin(), dead_addresses_.end() - kMostDeadAddresses);
  }
}

void Instance::inherit(const Instance& earlier) {
  dead_addresses_ = earlier.dead_addresses_;
  dead_addresses_.insert(dead_addresses_.end(), earlier.seen_.begin(), earlier.seen_.end());
}

void Instance::check_invariants() {
  const auto audit = pool_->audit();
  run_.expect(audit.status(), name_ + ", the pool's audit");
  run_.expect(index_->audit(), name_ + ", the index's audit");
  if (!model_.complaint().empty()) run_.fail(name_ + ": " + model_.complaint());
  if (model_.blocks() != index_->blocks()) {
    run_.fail(fmt::format("{}: the index holds {} blocks, its records tell of {}", name_,
                          index_->blocks(), model_.blocks()));
  }
  if (source_->connections() > run_.options().max_connections) {
    run_.fail(fmt::format("{} has {} connections", name_, source_->connections()));
  }
  engine_->check_calls();
}

void Instance::check_all() {
  if (!alive_) return;
  for (uint32_t block = 0; block < pool_->blocks(); ++block) {
    if (pool_->state(block) == BlockState::kFree && !is_poisoned(*pool_, block)) {
      run_.fail(fmt::format("{}: bytes came into block {}, which is free", name_, block));
    }
  }
  check_published();
  engine_->check_held();
}

void Instance::check_published() {
  for (const Content& content : simulated_contents()) {
    const auto known = model_.prefixes().find(content.id);
    if (known == model_.prefixes().end()) continue;
    for (const std::vector<TokenId>& prefix : known->second) {
      std::vector<BlockAddress> blocks;
      const size_t tokens = index_->match(kOracleSession, {content, prefix}, blocks);
      if (tokens != prefix.size()) {
        run_.fail(fmt::format("{}: {} of {} published tokens match", name_, tokens, prefix.size()));
      } else if (!has_kv(*pool_, blocks.back().index(), content, prefix, blocks.size() - 1)) {
        run_.fail(fmt::format("{}: published block {} has not its tokens' bytes", name_,
                              blocks.back().index()));
      }
      run_.expect(pool_->unpin(kOracleSession, blocks), name_ + ", the oracle's unpin");
    }
  }
}

}  // namespace mempool::simulation
