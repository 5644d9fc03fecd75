// SPDX-License-Identifier: Apache-2.0
// Owns the data plane of outbound transfers: one endpoint a session, the plans of all pairs of
// shards posted call by call, transfers of one session taking turns.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "agent/action.h"
#include "agent/source_machine.h"
#include "core/clock.h"
#include "transport/gather_plan.h"
#include "transport/transport.h"

namespace mempool {

/// Thread: confined to the agent's thread. Calls are made ready in buffers that start() takes.
class DataMover {
 public:
  using DoneHandler = std::function<void(TransferId, const Status&, const DataReport&)>;

  DataMover(const Clock& clock, std::vector<PlanSegment> own_segments, DoneHandler done);

  /// Use `endpoint` for the session's transfers.
  void add_link(SessionId session, std::unique_ptr<Endpoint> endpoint, const Capabilities& offers,
                std::vector<PlanSegment> remote_segments);
  /// The segments of this instance, or of the session's peer, are others from now on; what has been
  /// started goes on as it was planned.
  void set_own_segments(std::vector<PlanSegment> segments) { own_segments_ = std::move(segments); }
  void set_remote_segments(SessionId session, std::vector<PlanSegment> segments);
  /// Learn a key of the session's peer. Errors: those of Endpoint::import_key().
  Status import_key(SessionId session, uint32_t region, std::span<const std::byte> key);
  /// Break the session's endpoint; its transfers end with kUnavailable.
  void remove_link(SessionId session);
  /// Be ready to move blocks; `done` follows. Errors of the plan come by `done` too.
  void start(const PostData& data);
  /// Tell whether a transfer was started and is not done.
  bool knows(TransferId transfer) const { return sends_.contains(transfer); }
  /// Move these layers of them. Transfers that have ended are ignored, here and below.
  void post_layers(TransferId transfer, LayerRange layers);
  /// Notify the target once the layers so far are posted.
  void finish(TransferId transfer);
  /// Post nothing more of it; `done` follows, with `why`, when nothing reads its source blocks.
  void stop(TransferId transfer, const Status& why);
  /// A posted call or notification of a transfer ended.
  void on_completion(uint64_t cookie, const Status& status);

 private:
  struct Send {
    TransferId id = 0;
    SessionId session = 0;
    Slot slot;
    Operation operation = Operation::kWrite;
    std::vector<GatherPlan> plans;   // one for each pair of shards
    size_t walked = 0;               // plans that are through with the layers at hand
    std::vector<LayerRange> layers;  // handed over; those before next_layers are in the plans
    size_t next_layers = 0;
    size_t pending_pairs = 0;  // of a call that found no room
    std::vector<RunPair> pairs;
    uint32_t outstanding = 0;
    bool finished = false;  // no more layers follow
    bool idle = true;       // in no queue: waits for layers, or for its end
    bool ended = false;     // the last call, or the notification, is posted
    Status failure;
    DataReport report;
    CallCounts before;  // of the endpoint
  };
  struct Link {
    std::unique_ptr<Endpoint> endpoint;
    Capabilities offers;
    std::vector<PlanSegment> remote_segments;
    std::deque<TransferId> turns;
    bool closing = false;
    uint32_t sends = 0;
    uint32_t outstanding = 0;  // calls and notifications, of all of them
  };

  Result<std::vector<GatherPlan>> make_plans(const Link& link, const PostData& data) const;
  void wake(Send& send);
  void post_turns(SessionId session);
  bool prepare(const Link& link, Send& send);
  Status post_one(Link& link, Send& send);
  void end_if_quiet(TransferId transfer);

  const Clock& clock_;
  std::vector<PlanSegment> own_segments_;
  DoneHandler done_;
  std::map<SessionId, Link> links_;
  std::map<TransferId, std::unique_ptr<Send>> sends_;
};

}  // namespace mempool
