// SPDX-License-Identifier: Apache-2.0
// Owns posting: the next call of each transfer in turn, until the endpoint has no room.
#include "agent/data_mover.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "core/check.h"
#include "transport/shard_pairs.h"

namespace mempool {
namespace {

// More pairs than this in one call would only grow the buffers: a backend takes what it can.
constexpr size_t kPairsPerCall = 1024;
constexpr size_t kRouteBytesMax = 255;  // of a report

}  // namespace

DataMover::DataMover(const Clock& clock, std::vector<PlanSegment> own_segments, DoneHandler done)
    : clock_(clock), own_segments_(std::move(own_segments)), done_(std::move(done)) {}

void DataMover::add_link(SessionId session, std::unique_ptr<Endpoint> endpoint,
                         const Capabilities& offers, std::vector<PlanSegment> remote_segments) {
  Link& link = links_[session];
  link.endpoint = std::move(endpoint);
  link.offers = offers;
  link.remote_segments = std::move(remote_segments);
}

void DataMover::set_remote_segments(SessionId session, std::vector<PlanSegment> segments) {
  if (auto it = links_.find(session); it != links_.end()) {
    it->second.remote_segments = std::move(segments);
  }
}

Status DataMover::import_key(SessionId session, uint32_t region, std::span<const std::byte> key) {
  auto it = links_.find(session);
  return it == links_.end() ? Status() : it->second.endpoint->import_key(region, key);
}

void DataMover::remove_link(SessionId session) {
  auto it = links_.find(session);
  if (it == links_.end()) return;
  it->second.closing = true;
  it->second.endpoint->close();
  std::vector<TransferId> ids;
  for (const auto& [id, send] : sends_) {
    if (send->session == session) ids.push_back(id);
  }
  for (TransferId id : ids) stop(id, unavailable("the session ended while data was moving"));
  if (auto left = links_.find(session); left != links_.end() && left->second.sends == 0) {
    links_.erase(left);
  }
}

void DataMover::start(const PostData& data) {
  auto it = links_.find(data.session);
  if (it == links_.end() || it->second.closing) {
    done_(data.transfer, unavailable("the session ended before its data was posted"), {});
    return;
  }
  Link& link = it->second;
  const bool read = data.operation == Operation::kRead;
  if (read && !link.offers.read) {
    done_(
        data.transfer,
        unsupported(fmt::format("{} has no one-sided read, and a fetch needs one; name a transport "
                                "that has it before it in `transports`",
                                link.offers.name)),
        {});
    return;
  }
  Result<std::vector<GatherPlan>> plans = make_plans(link, data);
  if (!plans.ok()) {
    done_(data.transfer, plans.status(), {});
    return;
  }
  auto send = std::make_unique<Send>(Send{.id = data.transfer,
                                          .session = data.session,
                                          .slot = data.slot,
                                          .operation = data.operation,
                                          .plans = std::move(*plans)});
  send->report.transport = link.offers.name;
  for (GatherPlan& plan : send->plans) {
    send->report.bytes += plan.bytes();
    send->report.paper_calls += plan.paper_calls();
    plan.select_layers({});
  }
  send->layers.reserve(send->plans.front().layers().count);  // at the most one by one
  send->pairs.resize(kPairsPerCall);
  send->before = link.endpoint->counts();
  sends_[data.transfer] = std::move(send);
  ++link.sends;
}

Result<std::vector<GatherPlan>> DataMover::make_plans(const Link& link,
                                                      const PostData& data) const {
  const bool read = data.operation == Operation::kRead;
  const std::span<const PlanSegment> filled = read ? own_segments_ : link.remote_segments;
  uint64_t bytes = 0;
  std::vector<GatherPlan> plans;
  for (const ShardPair& pair : pair_shards(read ? link.remote_segments : own_segments_, filled)) {
    const PlanSide local{read ? pair.to : pair.from, data.local_blocks};
    const PlanSide remote{read ? pair.from : pair.to, data.remote_blocks};
    MEMPOOL_ASSIGN_OR_RETURN(GatherPlan plan, GatherPlan::create(local, remote));
    bytes += plan.bytes();
    plans.push_back(std::move(plan));
  }
  uint64_t to_fill = 0;
  for (const BlockLayout& layout : layouts_of(filled)) {
    to_fill += data.local_blocks.size() * layout.block_bytes;
  }
  if (bytes == to_fill) return plans;
  return unsupported(
      fmt::format("the layouts share {} of the {} bytes of the blocks to fill; both ends must hold "
                  "the same layers and heads",
                  bytes, to_fill));
}

void DataMover::post_layers(TransferId transfer, LayerRange layers) {
  auto it = sends_.find(transfer);
  if (it == sends_.end()) return;
  it->second->layers.push_back(layers);
  wake(*it->second);
}

void DataMover::finish(TransferId transfer) {
  auto it = sends_.find(transfer);
  if (it == sends_.end()) return;
  it->second->finished = true;
  wake(*it->second);
}

void DataMover::wake(Send& send) {
  if (!send.failure.ok() || !std::exchange(send.idle, false)) return;
  links_.at(send.session).turns.push_back(send.id);
  post_turns(send.session);
}

void DataMover::stop(TransferId transfer, const Status& why) {
  auto it = sends_.find(transfer);
  if (it == sends_.end()) return;
  Send& send = *it->second;
  Link& link = links_.at(send.session);
  if (send.failure.ok()) send.failure = why;
  std::erase(link.turns, transfer);
  if (!link.closing) link.endpoint->stop(send.slot);
  end_if_quiet(transfer);
}

// Make the next call ready: of the next plan where one is through, of the next layers where all
// are. Without one, tells whether the notification is next.
bool DataMover::prepare(const Link& link, Send& send) {
  while (send.pending_pairs == 0) {
    if (send.walked < send.plans.size()) {
      GatherPlan& plan = send.plans[send.walked];
      const uint64_t run_pairs = plan.run_pairs();
      send.pending_pairs = plan.next_call(link.offers.limits(send.operation), send.pairs);
      send.report.run_pair_calls += plan.run_pairs() - run_pairs;
      send.walked += send.pending_pairs == 0;
      continue;
    }
    if (send.next_layers == send.layers.size()) return send.finished;
    for (GatherPlan& plan : send.plans) plan.select_layers(send.layers[send.next_layers]);
    ++send.next_layers;
    send.walked = 0;
  }
  return true;
}

Status DataMover::post_one(Link& link, Send& send) {
  if (send.pending_pairs == 0 && send.operation == Operation::kRead) {
    send.ended = true;  // whoever reads needs to tell nobody
    send.report.posted = clock_.now();
    return {};
  }
  if (send.pending_pairs == 0) {
    MEMPOOL_RETURN_IF_ERROR(link.endpoint->notify(send.slot, send.id));
    send.ended = true;
    send.report.lanes = link.endpoint->lanes();
    send.report.network_calls += send.report.lanes;
    send.report.posted = clock_.now();
  } else {
    const Call call{send.operation, send.slot, send.id,
                    std::span(send.pairs).first(send.pending_pairs)};
    MEMPOOL_RETURN_IF_ERROR(link.endpoint->post(call));
    send.report.network_calls += 1;
    send.pending_pairs = 0;
  }
  ++send.outstanding;
  ++link.outstanding;
  return {};
}

void DataMover::post_turns(SessionId session) {
  while (true) {
    auto it = links_.find(session);  // each time: the end of a transfer may take the link away
    if (it == links_.end() || it->second.closing || it->second.turns.empty()) return;
    Link& link = it->second;
    const TransferId id = link.turns.front();
    Send& send = *sends_.at(id);
    if (!prepare(link, send)) {
      send.idle = true;
      link.turns.pop_front();
      continue;
    }
    // Known here, so that a full pipe is not asked for words at each completion.
    const bool ends = send.pending_pairs == 0 && send.operation == Operation::kRead;
    if (!ends && link.outstanding >= link.offers.calls_in_flight) return;
    const Status posted = post_one(link, send);
    if (posted.code() == StatusCode::kResourceExhausted) return;  // a completion makes room
    link.turns.pop_front();
    if (!posted.ok()) {
      send.failure = posted;
      link.endpoint->stop(send.slot);
    }
    if (posted.ok() && !send.ended) {
      link.turns.push_back(id);
    } else {
      end_if_quiet(id);
    }
  }
}

void DataMover::on_completion(uint64_t cookie, const Status& status) {
  auto it = sends_.find(cookie);
  if (it == sends_.end()) return;
  Send& send = *it->second;
  const SessionId session = send.session;
  --send.outstanding;
  --links_.at(session).outstanding;
  if (!status.ok() && send.failure.ok()) {
    send.failure = status;
    Link& link = links_.at(session);
    std::erase(link.turns, cookie);
    if (!link.closing) link.endpoint->stop(send.slot);
  }
  end_if_quiet(cookie);
  post_turns(session);
}

void DataMover::end_if_quiet(TransferId transfer) {
  auto it = sends_.find(transfer);
  if (it == sends_.end()) return;
  Send& send = *it->second;
  if (send.outstanding > 0 || (send.failure.ok() && !send.ended)) return;
  Link& link = links_.at(send.session);
  const CallCounts counts = link.endpoint->counts();
  if (counts.system_calls && send.before.system_calls) {
    send.report.system_calls = *counts.system_calls - *send.before.system_calls;
  }
  send.report.doorbells = counts.doorbells - send.before.doorbells;
  send.report.completions = counts.completions - send.before.completions;
  send.report.route = link.endpoint->route().substr(0, kRouteBytesMax);
  const std::unique_ptr<Send> ended = std::move(it->second);
  sends_.erase(it);
  const SessionId session = ended->session;
  if (--link.sends == 0 && link.closing) links_.erase(session);
  done_(transfer, ended->failure, ended->report);
}

}  // namespace mempool
