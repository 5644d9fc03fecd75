// SPDX-License-Identifier: Apache-2.0
// Owns an engine's stand-in: the workload of one simulated agent, and what the engine holds.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "agent/source_machine.h"
#include "core/block_pool.h"
#include "mempool/agent.h"
#include "tests/simulation/oracle.h"
#include "tests/simulation/run.h"

namespace mempool::simulation {

class Instance;

/// Places of transfers are told between engines beside the protocol, over the same links.
/// Does one random operation after another; uses blocks again as soon as the rules allow it.
/// Thread: confined.
class Engine {
 public:
  Engine(Run& run, Instance& instance, Ledger& ledger)
      : run_(run), instance_(instance), ledger_(ledger) {}

  /// Begin the workload towards these peers.
  void start(std::vector<std::string> peers, uint32_t operations);
  /// Fill a prompt and send it. Gives the call's id in the ledger, 0 if there was no room.
  uint64_t send_one(const std::string& peer, Duration time);
  /// Take every arrival and give back everything.
  void release_all();

  // ---- from the instance ----
  void end_call(const EndCall& end);
  void deliver(Arrival arrival);
  void abandon();

  // ---- the oracle ----
  /// Fail when a call is open past its time.
  void check_calls();
  /// Fail when a block that the engine holds has not its tokens' bytes.
  void check_held();
  size_t open_calls() const { return calls_.size() + fetches_.size() + asks_.size(); }

 private:
  /// A prompt's blocks, each pinned by the engine.
  struct Hold {
    Content content;
    std::vector<TokenId> tokens;
    std::vector<BlockAddress> blocks;
    bool inserted = false;  // some of them may be the index's
    bool making = false;    // its KV comes layer by layer, as the transfer is given them
    uint32_t calls = 0;     // open, that send it
  };
  using HoldId = uint64_t;
  struct Call {
    uint64_t ledger_id = 0;
    HoldId hold = 0;
    TimePoint deadline;
    Hold sent;            // what it was then
    uint32_t layers = 0;  // by layer: handed over so far
  };

  struct Fetch {
    Hold here;     // what was here before, pinned
    Hold missing;  // all tokens, and places for the blocks that follow
    TimePoint deadline;
  };

  void next_operation();
  void operate();
  /// Allocate and fill a prompt, from the index's copies where `reuse` and it has some.
  HoldId prefill(bool reuse);
  void make_room(size_t blocks);
  void insert(Hold& hold);
  /// To places at the peer, where some are given; else with an insert there.
  uint64_t transfer(HoldId id, const std::string& peer, Duration time,
                    std::vector<BlockAddress> places = {});
  void transfer_to_places(HoldId id, const std::string& peer, Duration time);
  void have_held(const std::string& peer, size_t count, Duration time);
  void have_lent(const std::string& peer, size_t count);
  std::vector<BlockAddress> lend(size_t count);
  void end_ask(TransferId transfer, const EndCall& end);
  void keep_places(const Ledger::Entry& call);
  void give_back_held(const std::string& peer);
  void take_back_lent();
  std::vector<SealedSum> sums_of(std::span<const BlockAddress> blocks) const;
  void next_layer(TransferId transfer);
  void make(const Hold& hold, std::optional<LayerRange> layers);
  void fetch(const std::string& peer, Duration time);
  void end_fetch(const Fetch& fetch, const EndCall& end);
  void cancel_one();
  void receive();
  void erase_one();
  void try_dead_address();
  void release(HoldId id);
  void rewrite(Hold& hold);
  HoldId some_hold();
  void check_hold(const Hold& hold, const std::string& what);

  Run& run_;
  Instance& instance_;
  Ledger& ledger_;
  std::vector<std::string> peers_;
  uint32_t operations_left_ = 0;
  std::map<HoldId, Hold> holds_;
  HoldId next_hold_ = 1;
  std::map<TransferId, Call> calls_;
  std::map<TransferId, Fetch> fetches_;
  std::deque<Arrival> arrivals_;
  struct Ask {
    std::string peer;
    size_t count = 0;
    TimePoint deadline;
  };
  std::map<TransferId, Ask> asks_;  // for blocks to be held
  struct Places {
    std::vector<BlockAddress> held;  // there for this engine, as far as it knows
    std::vector<BlockAddress> told;  // which that engine is filling
  };
  std::map<std::string, Places> places_;  // by peer
  std::vector<BlockAddress> lent_;        // here, that peers were told of
};

}  // namespace mempool::simulation
