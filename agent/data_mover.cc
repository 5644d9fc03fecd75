// SPDX-License-Identifier: Apache-2.0
// Owns posting: the next call of each transfer in turn, until the endpoint has no room.
#include "agent/data_mover.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "core/check.h"

namespace mempool {
namespace {

// More pairs than this in one call would only grow the buffers: a backend takes what it can.
constexpr size_t kPairsPerCall = 1024;

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
  Result<GatherPlan> plan = GatherPlan::create({own_segments_, data.local_blocks},
                                               {link.remote_segments, data.remote_blocks});
  if (!plan.ok()) {
    done_(data.transfer, plan.status(), {});
    return;
  }
  const PlanSegment& filled = read ? own_segments_.front() : link.remote_segments.front();
  const uint64_t filled_bytes = data.local_blocks.size() * filled.layout.block_bytes;
  if (plan->bytes() != filled_bytes) {
    done_(data.transfer,
          unsupported(fmt::format("the layouts share {} of the {} bytes of the blocks to fill; "
                                  "both ends must hold the same layers and heads",
                                  plan->bytes(), filled_bytes)),
          {});
    return;
  }
  auto send = std::make_unique<Send>(Send{.id = data.transfer,
                                          .session = data.session,
                                          .slot = data.slot,
                                          .operation = data.operation,
                                          .plan = std::move(*plan)});
  send->report.transport = link.offers.name;
  send->report.bytes = send->plan.bytes();
  send->report.paper_calls = send->plan.paper_calls();
  send->layers.reserve(send->plan.layers().count);  // at the most one by one
  send->pairs.resize(kPairsPerCall);
  send->plan.select_layers({});
  send->system_calls_before = link.endpoint->counts().system_calls;
  sends_[data.transfer] = std::move(send);
  ++link.sends;
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

// Make the next call ready, of the next layers where some are through. Without one, tells whether
// the notification is next.
bool DataMover::prepare(const Link& link, Send& send) {
  while (send.pending_pairs == 0) {
    send.pending_pairs = send.plan.next_call(link.offers.limits(send.operation), send.pairs);
    if (send.pending_pairs > 0) break;
    if (send.next_layers == send.layers.size()) return send.finished;
    send.plan.select_layers(send.layers[send.next_layers++]);
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
    send.report.run_pair_calls = send.plan.run_pairs();
    send.pending_pairs = 0;
  }
  ++send.outstanding;
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
  if (auto calls = link.endpoint->counts().system_calls; calls && send.system_calls_before) {
    send.report.system_calls = *calls - *send.system_calls_before;
  }
  const std::unique_ptr<Send> ended = std::move(it->second);
  sends_.erase(it);
  const SessionId session = ended->session;
  if (--link.sends == 0 && link.closing) links_.erase(session);
  done_(transfer, ended->failure, ended->report);
}

}  // namespace mempool
