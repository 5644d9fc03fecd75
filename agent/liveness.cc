// SPDX-License-Identifier: Apache-2.0
// Owns the times of the heartbeats.
#include "agent/liveness.h"

#include <algorithm>

namespace mempool {

Liveness::Liveness(Duration heartbeat, Duration peer_timeout)
    : heartbeat_(heartbeat), peer_timeout_(peer_timeout) {}

void Liveness::add(SessionId session, TimePoint now) {
  sessions_[session] = {0, now, now + heartbeat_};
}

void Liveness::on_heard(SessionId session, TimePoint now) {
  if (auto it = sessions_.find(session); it != sessions_.end()) it->second.heard = now;
}

void Liveness::on_progress(SessionId session, uint64_t progress, TimePoint now) {
  auto it = sessions_.find(session);
  if (it == sessions_.end() || it->second.progress == progress) return;
  it->second.progress = progress;
  it->second.heard = now;
}

void Liveness::excuse(Duration late) {
  if (late < heartbeat_) return;
  for (auto& [id, session] : sessions_) session.heard += late;
}

std::vector<SessionId> Liveness::beats_due(TimePoint now) {
  std::vector<SessionId> due;
  for (auto& [id, session] : sessions_) {
    if (session.beat_at > now) continue;
    session.beat_at = now + heartbeat_;
    due.push_back(id);
  }
  return due;
}

std::vector<SessionId> Liveness::lost(TimePoint now) {
  std::vector<SessionId> silent;
  for (const auto& [id, session] : sessions_) {
    if (session.heard + peer_timeout_ <= now) silent.push_back(id);
  }
  for (SessionId id : silent) sessions_.erase(id);
  return silent;
}

TimePoint Liveness::next_time() const {
  TimePoint next = TimePoint::max();
  for (const auto& [id, session] : sessions_) {
    next = std::min({next, session.beat_at, session.heard + peer_timeout_});
  }
  return next;
}

}  // namespace mempool
