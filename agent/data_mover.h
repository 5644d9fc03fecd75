// SPDX-License-Identifier: Apache-2.0
// Owns the data plane of outbound transfers: one endpoint a session, plans posted call by call,
// transfers of one session taking turns.
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

/// Thread: confined to the agent's thread. Nothing is allocated between start() and the end of a
/// transfer.
class DataMover {
 public:
  using DoneHandler = std::function<void(TransferId, const Status&, const DataReport&)>;

  DataMover(const Clock& clock, std::vector<PlanSegment> own_segments, DoneHandler done);

  /// Use `endpoint` for the session's transfers.
  void add_link(SessionId session, std::unique_ptr<Endpoint> endpoint, const Capabilities& offers,
                std::vector<PlanSegment> remote_segments);
  /// Break the session's endpoint; its transfers end with kUnavailable.
  void remove_link(SessionId session);
  /// Move blocks; `done` follows. Errors of the plan come by `done` too.
  void start(const PostData& data);
  /// Post nothing more of it; `done` follows when nothing reads its source blocks.
  void stop(TransferId transfer);
  /// A posted call or notification of a transfer ended.
  void on_completion(uint64_t cookie, const Status& status);

 private:
  struct Send {
    TransferId id = 0;
    SessionId session = 0;
    Slot slot;
    GatherPlan plan;
    size_t pending_pairs = 0;  // of a call that found no room
    std::vector<RunPair> pairs;
    uint32_t outstanding = 0;
    bool posted = false;
    bool notified = false;
    Status failure;
    DataReport report;
    std::optional<uint64_t> system_calls_before;
  };
  struct Link {
    std::unique_ptr<Endpoint> endpoint;
    Capabilities offers;
    std::vector<PlanSegment> remote_segments;
    std::deque<TransferId> turns;
    bool closing = false;
    uint32_t sends = 0;
  };

  void post_turns(SessionId session);
  Status post_one(Link& link, Send& send);
  void end_if_quiet(TransferId transfer);

  const Clock& clock_;
  std::vector<PlanSegment> own_segments_;
  DoneHandler done_;
  std::map<SessionId, Link> links_;
  std::map<TransferId, std::unique_ptr<Send>> sends_;
};

}  // namespace mempool
