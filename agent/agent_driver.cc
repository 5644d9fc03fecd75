// SPDX-License-Identifier: Apache-2.0
// Owns the driving of the state machines: events from connections, transports and timers go in,
// actions come out and are carried out.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/agent_impl.h"
#include "agent/seal_sums.h"
#include "agent/told_segments.h"
#include "core/check.h"
#include "core/checksum.h"
#include "core/log.h"
#include "transport/shard_pairs.h"

namespace mempool {
void Agent::Impl::request_pump() {
  loop_.post([this] { pump(); });
}

void Agent::Impl::pump() {
  if (std::exchange(pumping_, true)) return;  // an action's own event: the loop below goes on
  ++progress_;
  while (true) {
    std::vector<Action> actions;
    {
      const std::lock_guard lock(mutex_);
      actions = source_->take_actions();
      for (Action& action : target_->take_actions()) actions.push_back(std::move(action));
    }
    if (actions.empty()) break;
    for (Action& action : actions) {
      std::visit([this](auto& each) { carry_out(each); }, action);
    }
  }
  pumping_ = false;
  note_idle();
  drop_closed(clock_.now());
  TimePoint next = liveness_.next_time();
  if (!closing_.empty()) next = std::min(next, clock_.now() + kClosingTick);
  {
    const std::lock_guard lock(mutex_);
    next = std::min({next, source_->next_time(), target_->next_time()});
  }
  loop_.wake_at(next, [this] { on_tick(); });
}

void Agent::Impl::on_tick() {
  const TimePoint now = clock_.now();
  ++progress_;
  liveness_.excuse(now - loop_.due());
  for (SessionId session : liveness_.beats_due(now)) {
    control_->send(session, Heartbeat{progress_});
  }
  for (SessionId session : liveness_.lost(now)) {
    control_->close(session,
                    unavailable(fmt::format("silent for {} ms", options_.peer_timeout.count())));
  }
  {
    const std::lock_guard lock(mutex_);
    source_->on_time(now);
    target_->on_time(now);
  }
  pump();
}

// ---- control plane ---------------------------------------------------------------------------

Result<Welcome> Agent::Impl::on_accepted(SessionId session, const PeerInfo& peer) {
  {
    const std::lock_guard lock(mutex_);
    MEMPOOL_RETURN_IF_ERROR(target_->on_session_up(session, peer));
    Session& state = sessions_[session];
    state.peer = peer;
    state.up = true;
    show_peer(state);
  }
  liveness_.add(session, clock_.now());
  Welcome welcome = welcome_for(peer.incarnation);
  log().info("peer '{}' connected", peer.name);
  loop_.post([this] { pump(); });  // after the welcome is on its way
  return welcome;
}

void Agent::Impl::on_dialed(const std::string& name, SessionId session, const PeerInfo& peer,
                            const std::string& host, const Welcome& welcome) {
  {
    const std::lock_guard lock(mutex_);
    Session& state = sessions_[session];
    state.peer = peer;
    state.peer.name = name;
    state.dialed = true;
    state.host = host;
    state.welcome = welcome;
  }
  liveness_.add(session, clock_.now());
  // What serves another content is refused transfer by transfer, with that as the reason.
  const Status checked = peer.model == content_.model
                             ? check_shards(peer.segments, options_.content.kv_heads)
                             : Status();
  if (checked.ok()) {
    connect_transport(session, 0);
  } else {
    control_->close(session, checked.with_context("peer '" + name + "'"));
  }
  pump();
}

void Agent::Impl::on_dial_failed(const std::string& name, const Status& why) {
  {
    const std::lock_guard lock(mutex_);
    source_->on_dial_failed(name, why, clock_.now());
  }
  pump();
}

void Agent::Impl::on_message(SessionId session, Message message) {
  const TimePoint now = clock_.now();
  if (const auto* beat = std::get_if<Heartbeat>(&message)) {
    liveness_.on_progress(session, beat->progress, now);
    return;
  }
  liveness_.on_heard(session, now);
  if (const auto* offer = std::get_if<Offer>(&message); offer != nullptr && !offer->trace.empty()) {
    log().debug("transfer {} has traceparent {}", offer->number, offer->trace);
  }
  {
    const std::lock_guard lock(mutex_);
    auto it = sessions_.find(session);
    if (it == sessions_.end()) return;
    if (it->second.dialed) {
      source_->on_message(session, message, now);
    } else {
      target_->on_message(session, std::move(message), now);
    }
  }
  pump();
}

void Agent::Impl::on_welcome(SessionId session, Welcome welcome) {
  Status status;
  {
    const std::lock_guard lock(mutex_);
    auto it = sessions_.find(session);
    if (it == sessions_.end()) return;
    Session& state = it->second;
    if (state.peer.model == content_.model) {
      status = check_shards(welcome.segments, options_.content.kv_heads);
    }
    state.peer.segments = welcome.segments;
    for (TransportOffer& offer : welcome.transports) {
      for (TransportOffer& known : state.welcome.transports) {
        if (known.name == offer.name) known.keys = offer.keys;  // its address is as it was
      }
      if (offer.name != state.transport) continue;
      for (const TransportOffer::Key& key : offer.keys) {
        // One that cannot be used is of a segment that has gone again: the next list says so.
        const Status known = mover_->import_key(session, key.region, key.key);
        if (!known.ok())
          log().debug("region {} of '{}': {}", key.region, state.peer.name, known.to_string());
      }
    }
  }
  if (!status.ok()) return control_->close(session, status.with_context("a peer's new segments"));
  mover_->set_remote_segments(session, std::move(welcome.segments));
}

void Agent::Impl::on_closed(SessionId session, const Status& why) {
  liveness_.remove(session);
  mover_->remove_link(session);
  {
    const std::lock_guard lock(mutex_);
    end_session(session, why);
  }
  pump();
}

void Agent::Impl::end_session(SessionId session, const Status& why) {
  auto it = sessions_.find(session);
  if (it == sessions_.end()) return;  // CloseSession took it out
  Session& state = it->second;
  const bool was_up = std::exchange(state.up, false);
  show_peer(state, source_->closing(session));
  if (!state.dialed) {
    target_->on_session_down(session);  // the entry stays until the peer is fenced
    return;
  }
  if (was_up) {
    source_->on_session_down(session, why, clock_.now());
  } else {
    source_->on_dial_failed(state.peer.name, why, clock_.now());
  }
  sessions_.erase(it);
}

// ---- transports ------------------------------------------------------------------------------

void Agent::Impl::on_data_done(TransferId transfer, const Status& status,
                               const DataReport& report) {
  if (status.ok()) {
    metrics_.transfer_bytes.with({"source", report.transport}).add(report.bytes);
    metrics_.network_calls.with({report.transport}).add(report.network_calls);
  }
  {
    const std::lock_guard lock(mutex_);
    source_->on_data_done(transfer, status, report, clock_.now());
  }
  pump();
}

void Agent::Impl::on_peer_notified(uint64_t peer, Slot slot) {
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, session] : sessions_) {
      if (!session.dialed && session.peer.incarnation == peer) target_->on_notified(id, slot);
    }
  }
  pump();
}

// Break our sessions to a peer whose endpoint is gone; the next transfer dials anew.
void Agent::Impl::close_dialed(uint64_t peer, const Status& why) {
  std::vector<SessionId> affected;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, session] : sessions_) {
      if (session.dialed && session.peer.incarnation == peer) affected.push_back(id);
    }
  }
  for (SessionId session : affected) control_->close(session, why);
}

void Agent::Impl::on_peer_fenced(uint64_t peer) {
  auto it = fences_.find(peer);
  if (it == fences_.end() || --it->second > 0) return;
  fences_.erase(it);
  {
    const std::lock_guard lock(mutex_);
    for (auto session = sessions_.begin(); session != sessions_.end();) {
      if (!session->second.dialed && session->second.peer.incarnation == peer) {
        target_->on_fenced(session->first);
        session = sessions_.erase(session);
      } else {
        ++session;
      }
    }
  }
  pump();
}

// A restarted peer's new session may be up before its old one is seen to be gone. A session that
// ended because nobody needed it is no peer that is down. Requires: mutex_ is held.
void Agent::Impl::show_peer(const Session& session, bool needless) {
  const bool up = std::ranges::any_of(sessions_, [&session](const auto& item) {
    const Session& other = item.second;
    return other.up && other.dialed == session.dialed && other.peer.name == session.peer.name;
  });
  const std::vector<std::string> labels{session.peer.name, session.role()};
  if (needless && !up) {
    metrics_.peer_up.remove(labels);
  } else {
    metrics_.peer_up.with(labels).set(up ? 1 : 0);
  }
}

uint64_t Agent::Impl::incarnation_of(SessionId session) const {
  const std::lock_guard lock(mutex_);
  auto it = sessions_.find(session);
  return it == sessions_.end() ? 0 : it->second.peer.incarnation;
}

// ---- actions ---------------------------------------------------------------------------------

void Agent::Impl::carry_out(DialPeer& action) {
  std::string address;
  {
    const std::lock_guard lock(mutex_);
    address = peers_.at(action.peer);
  }
  control_->dial(action.peer, address);
}

void Agent::Impl::carry_out(SendMessage& action) {
  control_->send(action.session, std::move(action.message));
}

void Agent::Impl::carry_out(PostData& action) {
  mover_->start(action);
}

void Agent::Impl::carry_out(PostLayers& action) {
  mover_->post_layers(action.transfer, action.layers);
}

void Agent::Impl::carry_out(FinishData& action) {
  if (action.resum.empty()) {
    mover_->finish(action.transfer);
    return;
  }
  in_turns([this, resum = Resum(*pool_, std::move(action))]() mutable {
    if (!mover_->knows(resum.transfer()))
      return true;  // it has ended, and its blocks may be others'
    const Result<bool> through = resum.step();
    if (!through.ok()) {
      mover_->stop(resum.transfer(), through.status());
      return true;
    }
    if (!*through) return false;
    {
      const std::lock_guard lock(mutex_);
      source_->on_resummed(resum.transfer(), resum.take());
    }
    mover_->finish(resum.transfer());
    return true;
  });
}

void Agent::Impl::carry_out(StopData& action) {
  mover_->stop(action.transfer, cancelled("the transfer was stopped"));
}

void Agent::Impl::carry_out(OpenSlot& action) {
  const uint64_t peer = incarnation_of(action.session);
  for (const auto& transport : transports_) {
    if (const Status opened = transport->open_slot(peer, action.slot); !opened.ok()) {
      log().warning("slot {}: {}", action.slot.index, opened.to_string());
    }
  }
}

void Agent::Impl::carry_out(CloseSlot& action) {
  const uint64_t peer = incarnation_of(action.session);
  for (const auto& transport : transports_) transport->close_slot(peer, action.slot);
}

void Agent::Impl::carry_out(FencePeer& action) {
  const uint64_t peer = incarnation_of(action.session);
  fences_[peer] = transports_.size();
  const Status fenced = unavailable("the peer was fenced");
  control_->close(action.session, fenced);
  close_dialed(peer, fenced);  // a fence takes the endpoints of both directions
  for (const auto& transport : transports_) transport->fence(peer);
}

void Agent::Impl::carry_out(CloseSession& action) {
  liveness_.remove(action.session);
  {
    const std::lock_guard lock(mutex_);
    auto session = sessions_.extract(action.session);
    if (!session.empty()) show_peer(session.mapped(), true);
  }
  control_->close(action.session, unavailable("its source needs it no more"));
}

void Agent::Impl::carry_out(VerifyBlocks& action) {
  in_turns([this, session = action.session, number = action.number,
            check = SumCheck(*pool_, std::move(action.blocks), std::move(action.sums))]() mutable {
    if (!check.step()) return false;
    metrics_.checksum_failures.with().add(check.bad().size());
    const std::lock_guard lock(mutex_);
    target_->on_verified(session, number, check.bad());
    return true;
  });
}

void Agent::Impl::carry_out(VerifyFetch& action) {
  in_turns(
      [this, transfer = action.transfer, check = SumCheck(*pool_, std::move(action))]() mutable {
        if (verify_ != Verify::kOff && !check.step()) return false;
        metrics_.checksum_failures.with().add(check.bad().size());
        const std::lock_guard lock(mutex_);
        source_->on_fetch_verified(transfer, check.bad(), clock_.now());
        return true;
      });
}

void Agent::Impl::in_turns(std::function<bool()> step) {
  if (step()) {
    pump();
    return;
  }
  loop_.post([this, step = std::move(step)]() mutable { in_turns(std::move(step)); });
}

void Agent::Impl::carry_out(EndCall& action) {
  std::shared_ptr<Transfer::State> call;
  {
    const std::lock_guard lock(mutex_);
    auto it = calls_.find(action.transfer);
    if (it == calls_.end()) return;
    call = std::move(it->second);
    calls_.erase(it);
  }
  if (call->fetch) take_fetched(*call->fetch, action);
  if (call->source_blocks.empty() && !call->fetch) {  // blocks held at a peer: nothing moved
    return call->end(action.status, std::move(action.report));
  }
  metrics_.transfers.with({"source", std::string(status_code_name(action.status.code()))}).add();
  metrics_.transfer_seconds.with().observe(action.report.complete_us / 1e6);
  if (action.status.code() == StatusCode::kCorruption) recheck_sources(*call);
  call->end(action.status, std::move(action.report));
}

void Agent::Impl::carry_out(DeliverArrival& action) {
  metrics_.transfers.with({"target", "OK"}).add();
  if (attach_ == nullptr) return arrivals_.push(std::move(action.arrival));
  if (attach_->deliver(action.arrival, action.pinned)) return;
  const std::lock_guard lock(mutex_);  // nobody is there to take it: the index keeps what it can
  const Status unpinned = pool_->unpin(kCallerSession, action.pinned);
  MEMPOOL_CHECK(unpinned.ok());
  target_->on_received();
}

// The target saw bytes that are not those sealed. If they are wrong here too, the block must not
// serve anybody again.
void Agent::Impl::recheck_sources(const Transfer::State& call) {
  std::vector<BlockAddress> published;
  {
    const std::lock_guard lock(mutex_);
    for (const BlockAddress& block : call.source_blocks) {
      const bool sealed = pool_->check(block).ok() &&
                          pool_->state(block.index()) == BlockState::kPublished &&
                          pool_->checksum(block.index()).has_value();
      if (sealed && pool_->pin(kAgentSession, {&block, 1}).ok()) published.push_back(block);
    }
  }
  std::vector<uint64_t> sums;
  for (const BlockAddress& block : published) {
    sums.push_back(block_checksum(pool_->views(block.index())));
  }
  const std::lock_guard lock(mutex_);
  for (size_t i = 0; i < published.size(); ++i) {
    if (sums[i] == pool_->checksum(published[i].index())) continue;
    metrics_.checksum_failures.with().add();
    set_corrupt_aside(*pool_, *index_, published[i]);
    log().error("block {} no longer has the bytes that were sealed; it is set aside",
                to_string(published[i]));
  }
  const Status unpinned = pool_->unpin(kAgentSession, published);
  MEMPOOL_CHECK(unpinned.ok());
}

void set_corrupt_aside(BlockPool& pool, LocalIndex& index, const BlockAddress& block) {
  const BlockAddress list[] = {block};
  if (!pool.check(block).ok()) return;  // freed meanwhile
  const uint32_t indices[] = {block.index()};
  const BlockState state = pool.state(block.index());
  if (state != BlockState::kPublished && state != BlockState::kPrivate) return;  // aside already
  if (!pool.pin(kAgentSession, list).ok()) return;
  if (pool.state(block.index()) == BlockState::kPublished) index.erase_blocks(indices);
  pool.set_aside(kAgentSession, block.index());
}

}  // namespace mempool
