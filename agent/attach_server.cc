// SPDX-License-Identifier: Apache-2.0
// Owns the door that engines knock at.
#include "agent/attach_server.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/attach_session.h"

namespace mempool {

Result<std::unique_ptr<AttachServer>> AttachServer::open(Agent::Impl& agent, EventLoop& loop,
                                                         const std::string& path) {
  MEMPOOL_ASSIGN_OR_RETURN(UnixListener listener, UnixListener::open(path));
  std::unique_ptr<AttachServer> server(new AttachServer(agent, loop, std::move(listener)));
  server->accept();
  return server;
}

AttachServer::AttachServer(Agent::Impl& agent, EventLoop& loop, UnixListener listener)
    : agent_(agent),
      loop_(loop),
      listener_(std::move(listener)),
      watch_(loop, listener_.descriptor()) {}

AttachServer::~AttachServer() = default;

void AttachServer::accept() {
  for (Descriptor socket; (socket = listener_.accept()).valid();) {
    if (sessions_.size() >= kSessionsMax) continue;  // closed: its owner sees the end
    const SessionId id = next_session_++;
    const auto session =
        std::make_shared<AttachSession>(*this, agent_, loop_, id, std::move(socket));
    sessions_[id] = session;
    session->read();
  }
  watch_.when_readable([this] { accept(); });
}

bool AttachServer::deliver(const Arrival& arrival) {
  for (const auto& [id, session] : sessions_) {
    if (!session->receives()) continue;
    session->deliver(arrival);
    return true;
  }
  return false;
}

const AttachSession* AttachServer::holder_of(uint32_t shard) const {
  for (const auto& [id, session] : sessions_) {
    if (session->shard() == shard) return session.get();
  }
  return nullptr;
}

void AttachServer::on_rank_lost(const AttachSession& rank) {
  bool alone = true;
  for (const auto& [id, session] : sessions_) {
    if (session.get() == &rank || !session->shard()) continue;
    alone = false;
    session->cancel_all();
  }
  if (alone) return;
  broken_ = unavailable(fmt::format(
      "rank {}, process {}, is gone, maybe amid its share of a block; end the other ranks, and "
      "attach all anew",
      *rank.shard(), rank.process()));
}

void AttachServer::remove(SessionId session) {
  sessions_.erase(session);
  const bool none = std::ranges::none_of(
      sessions_, [](const auto& item) { return item.second->shard().has_value(); });
  if (none) broken_ = {};
}

}  // namespace mempool
