// SPDX-License-Identifier: Apache-2.0
// Owns the bytes on their way between instances: each call reads its source when its turn comes and
// lands in the target's memory some time later.
//
// A read goes to the target first, is answered there, and lands in its source's memory.
//
// Two kinds of network, by the run's options. *Unchecked*, as RDMA: the target's process has no say
// where bytes land, even when it is stopped, and a call completes after it has landed. *Checked*,
// as tcp: the target's process reads frames, admits them against the slot or discards them, and a
// call completes as soon as its source was read. On both, each lane keeps its order, lanes do not.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "agent/action.h"
#include "agent/source_machine.h"
#include "mempool/status.h"
#include "tests/simulation/run.h"
#include "transport/gather_plan.h"
#include "transport/transport.h"

namespace mempool::simulation {

class Instance;
class Network;
struct Connection;

/// Thread: confined.
class DataPlane {
 public:
  DataPlane(Run& run, Network& network) : run_(run), network_(network) {}

  // ---- what sources ask for ----
  void post(Instance& source, const PostData& data);
  void post_layers(Instance& source, const PostLayers& data);
  void finish(Instance& source, TransferId transfer);
  /// Begin nothing more; some of an unchecked network's calls are with the hardware already.
  void stop(Instance& source, TransferId transfer);
  /// The source's end of a connection is gone: its calls end, what was read may land yet.
  void cut(Connection& connection);

  // ---- what targets ask for ----
  void open_slot(SessionId session, Slot slot);
  void close_slot(SessionId session, Slot slot);

 private:
  struct Write {
    std::vector<RunPair> pairs;
    std::vector<std::byte> bytes;  // what was read, at the source or for a read at the target
    uint32_t lane = 0;
    bool begun = false;
    bool ended = false;  // at the source
  };
  struct Send {
    Instance* source = nullptr;
    Instance* target = nullptr;
    TransferId id = 0;
    Connection* connection = nullptr;
    Slot slot;
    std::vector<GatherPlan> plans;  // one for each pair of shards
    std::vector<Write> writes;
    TimePoint turn;   // of the last call
    size_t open = 0;  // writes not ended, and one for the notifications
    bool reads = false;
    bool stopped = false;
    bool cut = false;  // the source's end is gone: nothing lands at it
    bool notified = false;
    bool done = false;
    Status failure;
    DataReport report;
  };
  using SendRef = std::shared_ptr<Send>;  // shared with the events that carry its calls

  void post_call(const SendRef& send, std::span<const RunPair> pairs);
  void take_turn(const SendRef& send, bool by_process, std::function<void()> act);
  void begin(const SendRef& send, size_t index);
  void land(const SendRef& send, size_t index);
  void ask(const SendRef& send, size_t index);
  void answer(const SendRef& send, size_t index);
  Status read_leased(Send& send, Write& write);
  void land_answer(const SendRef& send, size_t index, const Status& status);
  void land_pairs(Send& send, const Write& write);
  bool may_land(const Send& send, const RunPair& pair);
  void notify(const SendRef& send);
  void end_write(const SendRef& send, size_t index, const Status& status);
  /// One thing less is open; when nothing is, the source's machine hears that its data is done.
  void close_one(const SendRef& send);
  TimePoint landing_time(Connection& connection, uint32_t lane);

  Run& run_;
  Network& network_;
  std::map<std::pair<Instance*, TransferId>, SendRef> sends_;
};

}  // namespace mempool::simulation
