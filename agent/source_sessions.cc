// SPDX-License-Identifier: Apache-2.0
// Owns which peers a source has a session with: made when a transfer needs one, at most as many as
// the limit, the idle one that was used least recently closed for another peer.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/source_machine.h"

namespace mempool {

size_t SourceMachine::connections() const {
  return static_cast<size_t>(std::ranges::count_if(
      peers_, [](const auto& item) { return item.second.session != 0 || item.second.dialing; }));
}

bool SourceMachine::closing(SessionId session) const {
  return std::ranges::any_of(peers_, [session](const auto& item) {
    return item.second.session == session && item.second.goodbyes > 0;
  });
}

bool SourceMachine::idle(const Peer& peer) const {
  return peer.open == 0 && peer.held.empty();
}

void SourceMachine::want(const std::string& peer) {
  if (std::ranges::find(wanted_, peer) == wanted_.end()) wanted_.push_back(peer);
}

void SourceMachine::connect(TimePoint now) {
  if (wanted_.empty()) return;
  std::erase_if(wanted_, [this](const std::string& name) { return peers_.at(name).open == 0; });
  // A peer whose own session is being closed is dialed when that is over.
  const auto gone = [this](const std::string& name) { return peers_.at(name).session == 0; };
  for (size_t used = connections(); used < options_.max_connections; ++used) {
    const auto next = std::ranges::find_if(wanted_, gone);
    if (next == wanted_.end()) break;
    peers_.at(*next).dialing = true;
    actions_.push_back(DialPeer{*next});
    wanted_.erase(next);
  }
  make_room(now);
}

// A session whose target let the first Goodbye pass may stay for long: it is no room on its way.
void SourceMachine::make_room(TimePoint now) {
  size_t closing = 0;
  std::vector<Peer*> idle_ones;
  for (auto& [name, peer] : peers_) {
    closing += peer.goodbyes == 1;
    if (peer.session != 0 && peer.goodbyes == 0 && idle(peer)) idle_ones.push_back(&peer);
  }
  std::ranges::sort(idle_ones, {}, &Peer::last_use);
  for (Peer* peer : idle_ones) {
    if (closing++ >= wanted_.size()) return;
    ++closed_idle_;
    say_goodbye(*peer, now);
  }
}

void SourceMachine::say_goodbye(Peer& peer, TimePoint now) {
  ++peer.goodbyes;
  peer.goodbye_at = now + options_.retransmit;
  actions_.push_back(SendMessage{peer.session, Goodbye{}});
}

Status SourceMachine::lateness(const Outbound& transfer) const {
  if (std::ranges::find(wanted_, transfer.peer) == wanted_.end()) {
    return deadline_exceeded(
        fmt::format("transfer to '{}' was not done by its deadline", transfer.peer));
  }
  return deadline_exceeded(
      fmt::format("transfer to '{}' had no connection by its deadline: all {} are in use or being "
                  "closed; raise limits.max_connections, or send to fewer peers at once",
                  transfer.peer, options_.max_connections));
}

void SourceMachine::on_session_up(const std::string& peer, SessionId session, const PeerInfo& info,
                                  TimePoint now) {
  Peer& state = peers_[peer];
  state.dialing = false;
  state.session = session;
  state.info = info;
  state.incarnation = info.incarnation;
  for (TransferId id : waiting_for(peer)) begin(id, transfers_.at(id), state, now);
  connect(now);  // nobody may need it any more
}

void SourceMachine::on_dial_failed(const std::string& peer, const Status& why, TimePoint now) {
  peers_[peer].dialing = false;
  for (TransferId id : waiting_for(peer)) fail(id, transfers_.at(id), why, now);
  connect(now);
}

void SourceMachine::on_session_down(SessionId session, const Status& why, TimePoint now) {
  for (auto& [name, peer] : peers_) {
    if (peer.session != session) continue;
    peer.session = 0;
    peer.held.clear();
    peer.goodbyes = 0;
    peer.goodbye_at = TimePoint::max();
  }
  std::vector<TransferId> affected;
  for (const auto& [id, transfer] : transfers_) {
    if (transfer.session == session) affected.push_back(id);
  }
  for (TransferId id : affected) {
    Outbound& transfer = transfers_.at(id);
    transfer.session = 0;  // nobody is left to tell
    fail(id, transfer, why, now);
  }
  connect(now);
}

std::vector<TransferId> SourceMachine::waiting_for(const std::string& peer) const {
  std::vector<TransferId> ids;
  for (const auto& [id, transfer] : transfers_) {
    if (transfer.peer == peer && transfer.state == State::kWaiting) ids.push_back(id);
  }
  return ids;
}

}  // namespace mempool
