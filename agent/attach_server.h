// SPDX-License-Identifier: Apache-2.0
// Owns the engine attached to an agent: the socket where its ranks knock, which of them are there,
// and who gets arrivals. It begins when all ranks are attached and ends as a whole when one leaves:
// any of them may write to any block, so blocks come back when the last one is gone.
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

  /// Hand an arrival to the engine, with those of its blocks that are pinned for the caller. False,
  /// and nothing done, when none is attached.
  bool deliver(const Arrival& arrival, std::span<const BlockAddress> pinned);

  /// The engine that has a rank, attached or leaving; or null.
  const AttachSession* holder_of(uint32_t shard) const;
  /// A rank has left. The engine ends with it: it may have gone amid its share of a block.
  void on_rank_left(const AttachSession& rank);
  /// Why the engine ends, until its last rank has gone; ok else.
  const Status& broken() const { return broken_; }
  /// Why the engine can make nothing of its blocks now: not all its ranks are there. Ok else.
  Status whole() const;
  /// Forget those that are over; the blocks of ranks are given back when all of them are.
  void settle();

 private:
  AttachServer(Agent::Impl& agent, EventLoop& loop, UnixListener listener, Descriptor pause);
  void accept();

  static constexpr size_t kSessionsMax = 2 * kShardsMax;  // all ranks, and as many at the door

  Agent::Impl& agent_;
  EventLoop& loop_;
  UnixListener listener_;
  Watch watch_;
  Descriptor pause_;  // a timer, for when no connection can be accepted
  Watch pause_watch_;
  std::map<SessionId, std::shared_ptr<AttachSession>> sessions_;  // shared with their own handlers
  SessionId next_session_ = kFirstEngineSession;
  Status broken_;
};

}  // namespace mempool
