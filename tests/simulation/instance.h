// SPDX-License-Identifier: Apache-2.0
// Owns one simulated agent: the real pool, index and state machines, and the carrying out of what
// the machines ask for.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/liveness.h"
#include "agent/source_machine.h"
#include "agent/target_machine.h"
#include "core/block_pool.h"
#include "index/local_index.h"
#include "tests/simulation/network.h"
#include "tests/simulation/oracle.h"
#include "tests/simulation/run.h"

namespace mempool::simulation {

class Engine;

/// One life of one name. Stopped, it does nothing and what comes waits; killed, it is over, but
/// stays in memory until the run ends so that nobody's pointer dangles. Thread: confined.
class Instance {
 public:
  Instance(Run& run, Network& network, Ledger& ledger, std::string name, uint64_t incarnation);
  ~Instance();
  Instance(const Instance&) = delete;

  const std::string& name() const { return name_; }
  BlockPool& pool() { return *pool_; }
  LocalIndex& index() { return *index_; }
  Network& network() { return network_; }
  SourceMachine& source() { return *source_; }
  TargetMachine& target() { return *target_; }
  Engine& engine() { return *engine_; }
  PeerInfo introduction() const;
  std::vector<PlanSegment> plan_segments() const;

  // ---- the process ----
  bool alive() const { return alive_; }
  bool stopped() const { return stopped_; }
  TimePoint runs_since() const { return runs_since_; }
  void stop();
  void resume();
  void kill();
  /// Run an event in this process: now, when it goes on, or never. After it, what the machines
  /// asked for is carried out and everything is audited.
  void in_process(const std::function<void()>& event);

  // ---- sessions ----
  void watch(SessionId session);
  void unwatch(SessionId session) { liveness_.remove(session); }
  /// A message for the machine of the session's side. Requires: not stopped.
  void take(SessionId session, Connection::Side side, const Message& message);

  // ---- the oracle ----
  /// Poison what was freed since the last look; the blocks' old addresses are dead from now on.
  void poison_freed();
  /// Addresses that must never be good again, those of earlier lives of the name among them.
  const std::vector<BlockAddress>& dead_addresses() const { return dead_addresses_; }
  void inherit(const Instance& earlier);
  /// Check every block: what is free is untouched, what is published and held has its tokens' KV.
  void check_all();

 private:
  void settle();
  void check_invariants();
  void check_published();
  void arm_timer();
  void arm_pulse();
  void beat();

  void carry_out(DialPeer& action);
  void carry_out(SendMessage& action);
  void carry_out(PostData& action);
  void carry_out(PostLayers& action);
  void carry_out(FinishData& action);
  void carry_out(StopData& action);
  void carry_out(EndCall& action);
  void carry_out(OpenSlot& action);
  void carry_out(CloseSlot& action);
  void carry_out(VerifyBlocks& action);
  void carry_out(VerifyFetch& action);
  void carry_out(FencePeer& action);
  void carry_out(CloseSession& action);
  void carry_out(DeliverArrival& action);

  Run& run_;
  Network& network_;
  const std::string name_;
  const uint64_t incarnation_;
  IndexModel model_;
  std::unique_ptr<BlockPool> pool_;
  std::unique_ptr<LocalIndex> index_;
  std::unique_ptr<SourceMachine> source_;
  std::unique_ptr<TargetMachine> target_;
  Liveness liveness_;
  std::unique_ptr<Engine> engine_;

  bool alive_ = true;
  bool stopped_ = false;
  uint32_t depth_ = 0;  // of in_process()
  TimePoint runs_since_{};
  std::deque<std::function<void()>> waiting_;
  TimePoint armed_ = TimePoint::max();        // of the machines' next timer
  TimePoint pulse_armed_ = TimePoint::max();  // of the next heartbeat or lost session
  uint64_t progress_ = 0;
  std::vector<BlockAddress> seen_;  // each block's address at the last look
  std::vector<BlockAddress> dead_addresses_;
};

}  // namespace mempool::simulation
