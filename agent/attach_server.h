// SPDX-License-Identifier: Apache-2.0
// Owns the engines attached to an agent: the socket where they knock, which rank each of them is,
// and who gets arrivals.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "agent/event_loop.h"
#include "core/block_pool.h"
#include "core/unix_socket.h"
#include "mempool/agent.h"

namespace mempool {

class AttachSession;

/// Thread: confined to the loop's thread.
class AttachServer {
 public:
  /// Listen on a path. Requires: the agent serves. Errors: those of UnixListener::open().
  static Result<std::unique_ptr<AttachServer>> open(Agent::Impl& agent, EventLoop& loop,
                                                    const std::string& path);
  ~AttachServer();

  /// Hand an arrival, pinned for the caller, to the engine. False, and nothing done, when none is
  /// attached.
  bool deliver(const Arrival& arrival);

  /// The engine that has a rank, attached or leaving; or null.
  const AttachSession* holder_of(uint32_t shard) const;
  /// A rank went without a word: what the others have open is taken back.
  void on_rank_lost(const AttachSession& rank);
  /// Why the engine may start, insert and commit nothing until all its ranks have left: one of them
  /// may have died amid its share of a block. Ok else.
  const Status& broken() const { return broken_; }
  /// An engine is gone, and its blocks are given back.
  void remove(SessionId session);

 private:
  AttachServer(Agent::Impl& agent, EventLoop& loop, UnixListener listener);
  void accept();

  static constexpr size_t kSessionsMax = 2 * kShardsMax;  // all ranks, and as many at the door

  Agent::Impl& agent_;
  EventLoop& loop_;
  UnixListener listener_;
  Watch watch_;
  std::map<SessionId, std::shared_ptr<AttachSession>> sessions_;  // shared with their own handlers
  SessionId next_session_ = kFirstEngineSession;
  Status broken_;
};

}  // namespace mempool
