// SPDX-License-Identifier: Apache-2.0
// Owns who is alive: when a session is owed a heartbeat, and which have been silent or stuck for
// too long. No socket, no clock.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "core/block_pool.h"
#include "core/clock.h"

namespace mempool {

/// A peer is lost when nothing came from it for the peer timeout, or when its heartbeats came but
/// the progress they count stood still for that long: its thread hangs. Thread: serialized.
class Liveness {
 public:
  Liveness(Duration heartbeat, Duration peer_timeout);

  void add(SessionId session, TimePoint now);
  void remove(SessionId session) { sessions_.erase(session); }
  /// Any message but a heartbeat came.
  void on_heard(SessionId session, TimePoint now);
  /// A heartbeat came.
  void on_progress(SessionId session, uint64_t progress, TimePoint now);

  /// This agent's own thread was late by that: what came meanwhile has yet to be read.
  void excuse(Duration late);
  /// Sessions to which a heartbeat is due; asking counts as sending it.
  std::vector<SessionId> beats_due(TimePoint now);
  /// Sessions to give up; each is named once.
  std::vector<SessionId> lost(TimePoint now);
  /// When one of the two has something to say; TimePoint::max() for never.
  TimePoint next_time() const;

 private:
  struct Session {
    uint64_t progress = 0;
    TimePoint heard;  // of a sign of life: a message, or a heartbeat that counts on
    TimePoint beat_at;
  };

  Duration heartbeat_;
  Duration peer_timeout_;
  std::map<SessionId, Session> sessions_;
};

}  // namespace mempool
