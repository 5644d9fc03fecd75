// SPDX-License-Identifier: Apache-2.0
// Owns the door that engines knock at.
#include "agent/attach_server.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/agent_impl.h"
#include "agent/attach_session.h"
#include "core/check.h"
#include "core/log.h"

namespace mempool {
namespace {

constexpr std::chrono::milliseconds kAcceptPause{100};
constexpr uint32_t kRanksRetryMs = 100;  // ranks come and go together

}  // namespace

Result<std::unique_ptr<AttachServer>> AttachServer::open(Agent::Impl& agent, EventLoop& loop,
                                                         const std::string& path) {
  MEMPOOL_ASSIGN_OR_RETURN(UnixListener listener, UnixListener::open(path));
  MEMPOOL_ASSIGN_OR_RETURN(Descriptor pause, make_timer());
  std::unique_ptr<AttachServer> server(
      new AttachServer(agent, loop, std::move(listener), std::move(pause)));
  server->accept();
  return server;
}

AttachServer::AttachServer(Agent::Impl& agent, EventLoop& loop, UnixListener listener,
                           Descriptor pause)
    : agent_(agent),
      loop_(loop),
      listener_(std::move(listener)),
      watch_(loop, listener_.descriptor()),
      pause_(std::move(pause)),
      pause_watch_(loop, pause_.number()) {}

AttachServer::~AttachServer() = default;

void AttachServer::accept() {
  for (;;) {
    Result<Descriptor> accepted = listener_.accept();
    if (!accepted.ok()) {  // who knocks still waits: asked again at once, this would spin
      log().warning("{}", accepted.status().message());
      start_timer(pause_, kAcceptPause);
      return pause_watch_.when_readable([this] { accept(); });
    }
    Descriptor& socket = *accepted;
    if (!socket.valid()) break;
    if (sessions_.size() >= kSessionsMax) continue;  // closed: its owner sees the end
    const SessionId id = next_session_++;
    const auto session =
        std::make_shared<AttachSession>(*this, agent_, loop_, id, std::move(socket));
    sessions_[id] = session;
    session->read();
  }
  watch_.when_readable([this] { accept(); });
}

bool AttachServer::deliver(const Arrival& arrival, std::span<const BlockAddress> pinned) {
  for (const auto& [id, session] : sessions_) {
    if (!session->receives()) continue;
    session->deliver(arrival, pinned);
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

Status AttachServer::whole() const {
  if (!broken_.ok()) return broken_;
  const auto here = std::ranges::count_if(
      sessions_, [](const auto& item) { return item.second->shard().has_value(); });
  const uint32_t ranks = agent_.options_.shards;
  if (here == ranks) return {};
  return Status(StatusCode::kUnavailable,
                fmt::format("{} of the engine's {} ranks are attached", here, ranks),
                kRanksRetryMs);
}

void AttachServer::on_rank_left(const AttachSession& rank) {
  if (agent_.options_.shards == 1 || !broken_.ok()) return;
  broken_ = Status(StatusCode::kUnavailable,
                   fmt::format("rank {}, process {}, has left, maybe amid its share of a block; "
                               "end the other ranks, then attach all anew",
                               *rank.shard(), rank.process()),
                   kRanksRetryMs);
  log().warning("the engine ends: {}", broken_.message());
  for (const auto& [id, session] : sessions_) {
    if (session->shard()) session->give_up(broken_);
  }
}

void AttachServer::settle() {
  std::erase_if(sessions_,
                [](const auto& item) { return !item.second->shard() && item.second->is_over(); });
  const bool over = std::ranges::all_of(
      sessions_, [](const auto& item) { return !item.second->shard() || item.second->is_over(); });
  if (!over) return;
  broken_ = {};
  std::erase_if(sessions_, [](const auto& item) {
    if (!item.second->shard()) return false;
    item.second->give_back();
    return true;
  });
}

}  // namespace mempool
