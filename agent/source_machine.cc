// SPDX-License-Identifier: Apache-2.0
// Owns the steps of an outbound transfer.
#include "agent/source_machine.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/source_parts.h"
#include "core/check.h"
#include "core/checksum.h"
#include "transport/shard_pairs.h"

namespace mempool {
SourceMachine::SourceMachine(const Options& options, BlockPool& pool)
    : options_(options), pool_(pool) {}

Result<TransferId> SourceMachine::start(const std::string& peer, TransferRequest request,
                                        TimePoint now) {
  if (refusing_) {
    return unavailable("this agent is draining and starts no transfers; use another instance");
  }
  // What tells of held blocks is no call, and there can be no more of it than blocks were held.
  if (const size_t open = transfers_.size() - releases_; open >= options_.max_open) {
    return resource_exhausted(
        fmt::format("{} transfers are open, the most this agent holds (limits.max_outbound); wait "
                    "for one to end",
                    open),
        options_.retry_hint_ms);
  }
  if (request.reserve > 0 && !request.blocks.empty()) {
    return invalid_argument(fmt::format(
        "{} blocks are named, and nothing moves where a peer is to hold some; name none",
        request.blocks.size()));
  }
  MEMPOOL_RETURN_IF_ERROR(check_places(peer, request));
  MEMPOOL_RETURN_IF_ERROR(pool_.pin(kAgentSession, request.blocks));
  const TransferId id = next_id_++;
  Outbound& transfer = transfers_[id];
  transfer.peer = peer;
  transfer.request = std::move(request);
  transfer.started = now;
  transfer.report.tokens = transfer.request.tokens.size();
  transfer.finished = !transfer.request.by_layer;
  const BlockLayout& layout = pool_.layouts().front();  // all shards have the same layers
  transfer.handed.assign(layout.layers, transfer.finished);
  if (transfer.finished) transfer.layers.push_back({layout.first_layer, layout.layers});
  Peer& state = peers_[peer];
  take_over(transfer, state);
  ++state.open;
  if (state.session != 0 && state.goodbyes == 0) {
    begin(id, transfer, state, now);
  } else if (!state.dialing) {
    want(peer);
    connect(now);
  }
  return id;
}

void SourceMachine::begin(TransferId id, Outbound& transfer, Peer& peer, TimePoint now) {
  if (transfer.request.content.model != peer.info.model) {
    fail(id, transfer,
         invalid_argument(fmt::format(
             "'{}' serves another content (model {}, this prompt's is {}); "
             "both ends need the same model, element and block shape",
             transfer.peer, to_string(peer.info.model), to_string(transfer.request.content.model))),
         now);
    return;
  }
  transfer.session = peer.session;
  transfer.number = peer.next_number++;
  transfer.state = State::kOffering;
  send_offer(transfer, now);
}

void SourceMachine::send_offer(Outbound& transfer, TimePoint now) {
  const TransferRequest& request = transfer.request;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(request.deadline - now).count();
  Offer offer;
  offer.number = transfer.number;
  offer.request_id = request.request_id;
  offer.deadline_ms = static_cast<uint32_t>(std::clamp<int64_t>(left, 1, UINT32_MAX));
  offer.medium = request.medium;
  offer.content = request.content;
  offer.tokens = request.tokens;
  offer.user_data = request.user_data;
  offer.fetch = request.fetch;
  offer.reserve = request.reserve;
  offer.places = request.places;
  offer.trace = request.trace;
  transfer.retry_at = now + options_.retransmit;
  actions_.push_back(SendMessage{transfer.session, std::move(offer)});
}

void SourceMachine::send_commit(Outbound& transfer, TimePoint now) {
  Commit commit;
  commit.number = transfer.number;
  commit.notifications = transfer.lanes;
  for (const SealedSum& sum : transfer.request.sums) {
    if (sum.position >= transfer.matched.size()) commit.sums.push_back(sum);
  }
  transfer.retry_at = now + options_.retransmit;
  actions_.push_back(SendMessage{transfer.session, std::move(commit)});
}

void SourceMachine::send_cancel(Outbound& transfer, TimePoint now) {
  transfer.retry_at = now + options_.retransmit;
  actions_.push_back(
      SendMessage{transfer.session, Cancel{transfer.number, transfer.request.places}});
}

Status SourceMachine::check_open(TransferId id) const {
  const auto it = transfers_.find(id);
  if (it != transfers_.end() && !it->second.ended) return {};
  return unavailable("the transfer has ended; wait() tells how");
}

Status SourceMachine::hand_over(TransferId id, LayerRange layers) {
  MEMPOOL_RETURN_IF_ERROR(check_open(id));
  Outbound& transfer = transfers_.at(id);
  const BlockLayout& layout = pool_.layouts().front();
  const uint64_t first = uint64_t{layers.first} - layout.first_layer;
  if (layers.count == 0 || layers.first < layout.first_layer ||
      first + layers.count > layout.layers) {
    return invalid_argument(fmt::format("{} layers from {}: this pool's are {} from {}",
                                        layers.count, layers.first, layout.layers,
                                        layout.first_layer));
  }
  const auto from = transfer.handed.begin() + static_cast<long>(first);
  if (std::find(from, from + layers.count, true) != from + layers.count) {
    return invalid_argument(
        fmt::format("{} layers from {}: some were handed over before", layers.count, layers.first));
  }
  std::fill(from, from + layers.count, true);
  return {};
}

void SourceMachine::on_layers_ready(TransferId id, LayerRange layers) {
  auto it = transfers_.find(id);
  if (it == transfers_.end()) return;
  Outbound& transfer = it->second;
  if (transfer.state == State::kSending) {
    actions_.push_back(PostLayers{id, layers});
  } else {
    transfer.layers.push_back(layers);
  }
}

Status SourceMachine::check_commit(TransferId id) const {
  MEMPOOL_RETURN_IF_ERROR(check_open(id));
  const Outbound& transfer = transfers_.at(id);
  if (transfer.finished) return invalid_argument("the transfer was committed before");
  const auto missing = std::ranges::find(transfer.handed, false);
  if (missing == transfer.handed.end()) return {};
  return invalid_argument(
      fmt::format("layer {} was not handed over; send_layers() all of them "
                  "before commit()",
                  pool_.layouts().front().first_layer + (missing - transfer.handed.begin())));
}

void SourceMachine::commit(TransferId id, std::vector<SealedSum> sums, TimePoint now) {
  auto it = transfers_.find(id);
  if (it == transfers_.end()) return;
  Outbound& transfer = it->second;
  transfer.request.sums = std::move(sums);
  transfer.finished = true;
  if (transfer.state == State::kSending) {
    finish_data(id, transfer);
  } else if (transfer.state == State::kHolding) {
    transfer.state = State::kCommitting;
    send_commit(transfer, now);
  }
}

void SourceMachine::cancel(TransferId transfer, TimePoint now) {
  give_up(transfer, cancelled("the caller took the transfer back"), now);
}

void SourceMachine::give_up(TransferId transfer, Status why, TimePoint now) {
  auto it = transfers_.find(transfer);
  if (it != transfers_.end()) fail(it->first, it->second, std::move(why), now);
}

void SourceMachine::cancel_all(TimePoint now) {
  wanted_.clear();  // nobody is dialed any more
  std::vector<TransferId> ids;
  for (const auto& [id, transfer] : transfers_) ids.push_back(id);
  for (TransferId id : ids) {
    Outbound& transfer = transfers_.at(id);
    fail(id, transfer, cancelled("the agent stops"), now);
  }
}

void SourceMachine::fail(TransferId id, Outbound& transfer, Status status, TimePoint now) {
  switch (transfer.state) {
    case State::kWaiting:
    case State::kOffering:
    case State::kHolding:
    case State::kCommitting:
      transfer.failure = std::move(status);
      quiet(id, transfer, now);
      break;
    case State::kSending:
      transfer.failure = std::move(status);
      transfer.state = State::kStopping;
      transfer.retry_at = TimePoint::max();
      transfer.grace_end = now + options_.stop_grace;
      actions_.push_back(StopData{id});
      break;
    case State::kVerifying:  // the places are being looked at
      transfer.failure = std::move(status);
      transfer.state = State::kStopping;
      transfer.grace_end = now + options_.stop_grace;
      break;
    case State::kStopping:
      break;  // the first reason stays; on_data_done() goes on
    case State::kTelling:
      if (transfer.session == 0) erase(id, now);
      break;
  }
}

void SourceMachine::quiet(TransferId id, Outbound& transfer, TimePoint now) {
  const bool known_there = transfer.state != State::kWaiting && transfer.session != 0;
  unpin(transfer);
  end_call(id, transfer, transfer.failure, now);
  if (!known_there) {
    erase(id, now);
    return;
  }
  transfer.state = State::kTelling;
  send_cancel(transfer, now);
}

void SourceMachine::end_call(TransferId id, Outbound& transfer, const Status& status,
                             TimePoint now) {
  if (std::exchange(transfer.ended, true)) return;
  transfer.report.complete_us = microseconds(now - transfer.started);
  actions_.push_back(EndCall{id, status, transfer.report, status.ok() ? transfer.fetched : 0});
}

void SourceMachine::unpin(Outbound& transfer) {
  if (!std::exchange(transfer.pinned, false)) return;
  const Status unpinned = pool_.unpin(kAgentSession, transfer.request.blocks);
  MEMPOOL_CHECK(unpinned.ok());  // start() pinned them, and a pinned block cannot go stale
}

void SourceMachine::erase(TransferId id, TimePoint now) {
  const auto it = transfers_.find(id);
  Peer& peer = peers_.at(it->second.peer);
  releases_ -= it->second.release;
  transfers_.erase(it);
  peer.last_use = ++uses_;
  if (--peer.open == 0) connect(now);
}

SourceMachine::Outbound* SourceMachine::find(SessionId session, uint64_t number, TransferId* id) {
  for (auto& [key, transfer] : transfers_) {
    if (transfer.session == session && transfer.number == number) {
      *id = key;
      return &transfer;
    }
  }
  return nullptr;
}

void SourceMachine::on_message(SessionId session, const Message& message, TimePoint now) {
  if (const auto* reply = std::get_if<OfferReply>(&message)) {
    on_offer_reply(session, *reply, now);
  } else if (const auto* reply = std::get_if<CommitReply>(&message)) {
    on_commit_reply(session, *reply, now);
  } else if (const auto* reply = std::get_if<CancelReply>(&message)) {
    on_cancel_reply(session, *reply, now);
  } else if (const auto* request = std::get_if<StopRequest>(&message)) {
    on_stop_request(session, *request, now);
  }
}

Status SourceMachine::check_reply(const Outbound& transfer, const OfferReply& reply) const {
  const Peer& peer = peers_.at(transfer.peer);
  const size_t whole = transfer.request.tokens.size() / pool_.shape().tokens_per_block;
  if (reply.matched.size() > whole ||
      reply.matched.size() + reply.reserved.size() != transfer.request.blocks.size()) {
    return corruption(
        fmt::format("'{}' answered an offer of {} blocks with {} matched and {} "
                    "reserved",
                    transfer.peer, transfer.request.blocks.size(), reply.matched.size(),
                    reply.reserved.size()));
  }
  if (!transfer.request.places.empty() && reply.reserved != transfer.request.places) {
    return corruption(
        fmt::format("'{}' answered with other places than were asked for", transfer.peer));
  }
  for (const BlockAddress& address : reply.reserved) {
    if (address.incarnation != peer.incarnation) {
      return stale(fmt::format("'{}' answered with {}, of another incarnation", transfer.peer,
                               to_string(address)));
    }
  }
  return {};
}

Status SourceMachine::check_reply(const Outbound& transfer, const CommitReply& reply) const {
  const size_t whole = transfer.request.tokens.size() / pool_.shape().tokens_per_block;
  const size_t serving = reply.serving.size();
  // None: an old answer let go of its addresses. The whole blocks only: nobody keeps the tail.
  if (serving != 0 && serving != whole && serving != transfer.request.blocks.size()) {
    return internal_error(
        fmt::format("'{}' acknowledged a transfer of {} blocks with {} addresses; it has arrived, "
                    "but what serves it is not known",
                    transfer.peer, transfer.request.blocks.size(), serving));
  }
  const uint64_t incarnation = peers_.at(transfer.peer).incarnation;
  for (const BlockAddress& address : reply.serving) {
    if (address.incarnation != incarnation) {
      return stale(fmt::format("'{}' acknowledged with {}, of another incarnation", transfer.peer,
                               to_string(address)));
    }
  }
  return {};
}

void SourceMachine::on_offer_reply(SessionId session, const OfferReply& reply, TimePoint now) {
  TransferId id = 0;
  Outbound* transfer = find(session, reply.number, &id);
  if (transfer == nullptr || transfer->state != State::kOffering) return;  // a repeated answer
  if (!reply.status.ok()) return refused(id, *transfer, reply.status, now);
  if (transfer->request.reserve > 0) return take_held(id, *transfer, reply, now);
  const bool fetch = transfer->request.fetch;
  Status checked = fetch ? check_lease(*transfer, reply) : check_reply(*transfer, reply);
  if (!checked.ok()) {
    fail(id, *transfer, std::move(checked), now);
    return;
  }
  if (fetch) {
    read_leased(id, *transfer, reply, now);
    return;
  }
  transfer->matched = reply.matched;
  transfer->reserved = reply.reserved;
  TransferReport& report = transfer->report;
  report.tokens_matched = reply.matched.size() * pool_.shape().tokens_per_block;
  report.bytes_saved = reply.matched.size() * pool_.block_bytes();
  report.prepare_us = microseconds(now - transfer->started);
  transfer->retry_at = TimePoint::max();
  if (reply.reserved.empty()) {
    transfer->state = State::kHolding;
    if (!transfer->finished) return;
    transfer->state = State::kCommitting;
    send_commit(*transfer, now);
    return;
  }
  transfer->state = State::kSending;
  const std::span<const BlockAddress> rest =
      std::span(transfer->request.blocks).subspan(reply.matched.size());
  actions_.push_back(PostData{id, session, reply.slot, Operation::kWrite, indices(rest),
                              indices(transfer->reserved)});
  for (const LayerRange& layers : transfer->layers) actions_.push_back(PostLayers{id, layers});
  if (transfer->finished) finish_data(id, *transfer);
}

void SourceMachine::refused(TransferId id, Outbound& transfer, const Status& status,
                            TimePoint now) {
  Peer& peer = peers_.at(transfer.peer);
  if (status.retry_after_ms() > 0) {  // for now only, so the places are worth keeping
    for (const BlockAddress& place : transfer.taken) {
      peer.held.emplace(place, transfer.request.engine);
    }
  } else if (!transfer.request.places.empty()) {
    return fail(id, transfer, status, now);  // what the peer still holds of them goes back
  }
  unpin(transfer);
  end_call(id, transfer, status, now);
  erase(id, now);
}

void SourceMachine::finish_data(TransferId id, const Outbound& transfer) {
  FinishData finish{id, {}, {}};
  std::vector<BlockLayout> theirs = layouts_of(peers_.at(transfer.peer).info.segments);
  if (!theirs.empty() && !same_sums(theirs, pool_.layouts())) {
    finish.target_layouts = std::move(theirs);
    for (const SealedSum& sum : transfer.request.sums) {
      if (sum.position < transfer.matched.size()) continue;
      const uint32_t block = transfer.request.blocks[sum.position].index();
      finish.resum.push_back({sum.position, block, sum.checksum});
    }
  }
  actions_.push_back(std::move(finish));
}

void SourceMachine::on_resummed(TransferId id, std::vector<SealedSum> sums) {
  auto it = transfers_.find(id);
  if (it == transfers_.end()) return;
  it->second.request.sums = std::move(sums);
}

void SourceMachine::on_data_done(TransferId id, const Status& status, const DataReport& data,
                                 TimePoint now) {
  auto it = transfers_.find(id);
  if (it == transfers_.end()) return;
  Outbound& transfer = it->second;
  if (transfer.state != State::kSending && transfer.state != State::kStopping) return;
  TransferReport& report = transfer.report;
  report.transport = data.transport;
  report.route = data.route;
  report.bytes = status.ok() ? data.bytes : 0;
  report.paper_calls = data.paper_calls;
  report.run_pair_calls = data.run_pair_calls;
  report.network_calls = data.network_calls;
  report.system_calls = data.system_calls;
  report.doorbells = data.doorbells;
  report.completions = data.completions;
  if (data.posted >= transfer.started)
    report.post_us = microseconds(data.posted - transfer.started);
  transfer.lanes = data.lanes;
  if (transfer.state == State::kSending && status.ok()) {
    if (transfer.request.fetch) {
      verify_fetched(id, transfer, now);
      return;
    }
    transfer.state = State::kCommitting;
    send_commit(transfer, now);
    return;
  }
  if (transfer.failure.ok()) transfer.failure = status;
  quiet(id, transfer, now);
}

void SourceMachine::on_commit_reply(SessionId session, const CommitReply& reply, TimePoint now) {
  TransferId id = 0;
  Outbound* transfer = find(session, reply.number, &id);
  if (transfer == nullptr || transfer->state != State::kCommitting) return;
  Status status = reply.status.ok() ? check_reply(*transfer, reply) : reply.status;
  if (status.ok()) transfer->report.serving = reply.serving;
  unpin(*transfer);
  end_call(id, *transfer, status, now);
  erase(id, now);
}

void SourceMachine::on_cancel_reply(SessionId session, const CancelReply& reply, TimePoint now) {
  TransferId id = 0;
  Outbound* transfer = find(session, reply.number, &id);
  if (transfer != nullptr && transfer->state == State::kTelling) erase(id, now);
}

void SourceMachine::on_stop_request(SessionId session, const StopRequest& request, TimePoint now) {
  TransferId id = 0;
  Outbound* transfer = find(session, request.number, &id);
  if (transfer == nullptr) {
    actions_.push_back(
        SendMessage{session, Cancel{request.number, {}}});  // gone, so nothing in flight
  } else if (transfer->state == State::kTelling) {
    send_cancel(*transfer, now);
  } else {
    fail(id, *transfer,
         deadline_exceeded(
             fmt::format("'{}' gave the transfer up; its time there was over", transfer->peer)),
         now);
  }
}

void SourceMachine::on_time(TimePoint now) {
  std::vector<TransferId> due;
  for (const auto& [id, transfer] : transfers_) {
    if (!transfer.ended && transfer.request.deadline <= now) {
      due.push_back(id);
    } else if (transfer.retry_at <= now || transfer.grace_end <= now) {
      due.push_back(id);
    }
  }
  for (TransferId id : due) {
    Outbound& transfer = transfers_.at(id);
    if (!transfer.ended && transfer.request.deadline <= now && transfer.state != State::kStopping) {
      fail(id, transfer, lateness(transfer), now);
    } else if (transfer.grace_end <= now) {
      transfer.grace_end = TimePoint::max();  // the call ends; its blocks stay pinned until quiet
      end_call(id, transfer, transfer.failure, now);
    } else if (transfer.retry_at <= now) {
      if (transfer.state == State::kOffering) send_offer(transfer, now);
      if (transfer.state == State::kCommitting) send_commit(transfer, now);
      if (transfer.state == State::kTelling) send_cancel(transfer, now);
    }
  }
  bool unanswered = false;
  for (auto& [name, peer] : peers_) {
    if (peer.goodbye_at > now) continue;
    say_goodbye(peer, now);
    unanswered = true;
  }
  if (unanswered) connect(now);  // room may have to come from another
}

TimePoint SourceMachine::next_time() const {
  TimePoint next = TimePoint::max();
  for (const auto& [name, peer] : peers_) next = std::min(next, peer.goodbye_at);
  for (const auto& [id, transfer] : transfers_) {
    next = std::min({next, transfer.retry_at, transfer.grace_end});
    if (!transfer.ended && transfer.state != State::kStopping) {
      next = std::min(next, transfer.request.deadline);
    }
  }
  return next;
}

}  // namespace mempool
