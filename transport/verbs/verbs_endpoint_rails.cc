// SPDX-License-Identifier: Apache-2.0
// Owns the rails of an endpoint: how they are set up with the peer, and what happens when one
// fails.
//
// A rail that fails is broken at both ends before anything it had is sent again over another: the
// peer's device may hold a late packet of it until the peer's own queue pair is gone, and a write
// must not land when its transfer is long over.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/check.h"
#include "core/log.h"
#include "transport/verbs/verbs_endpoint.h"
#include "transport/verbs/work_status.h"

namespace mempool {

Status VerbsEndpoint::begin(std::shared_ptr<SetupLink> link, ReadyHandler ready) {
  MEMPOOL_RETURN_IF_ERROR(make_rails());
  ConnectNote note;
  for (const auto& device : shared_.devices) note.rails.push_back({device->address(), {}});
  for (const SendLane& lane : lanes_) note.rails[lane.rail].queues.push_back(lane.queue.address());
  ready_ = std::move(ready);
  link_ = std::move(link);
  link_->start(*this);
  link_->set_deadline(shared_.options.handshake_timeout);
  link_->send(encode_note(note));
  return {};
}

Status VerbsEndpoint::make_rails() {
  const VerbsOptions& options = shared_.options;
  const QueueShape shape{options.queue_depth, shared_.capabilities.gather_pieces, false};
  for (uint32_t i = 0; i < shared_.devices.size(); ++i) {
    const VerbsDevice& device = *shared_.devices[i];
    Rail& rail = rails_.emplace_back();
    MEMPOOL_ASSIGN_OR_RETURN(
        rail.completions,
        CompletionQueue::create(device, *shared_.channels[i],
                                options.queue_depth * options.queue_pairs, !options.spin, *this));
    for (uint32_t q = 0; q < options.queue_pairs; ++q) {
      MEMPOOL_ASSIGN_OR_RETURN(
          QueuePair queue,
          QueuePair::create(device, options, rail.completions->get(), nullptr, shape));
      lanes_.emplace_back(i, std::move(queue), works_.size());
    }
  }
  return {};
}

bool VerbsEndpoint::has_rail(RailState state) const {
  return std::ranges::find(rails_, state, &Rail::state) != rails_.end();
}

Status VerbsEndpoint::on_note(std::span<const std::byte> bytes) {
  MEMPOOL_ASSIGN_OR_RETURN(SetupNote note, decode_note(bytes));
  if (auto* refused = std::get_if<RefusedNote>(&note)) return refused->status;
  if (auto* accepted = std::get_if<AcceptedNote>(&note)) return on_accepted(*accepted);
  const auto* gone = std::get_if<RailGoneNote>(&note);
  if (gone == nullptr || gone->rail >= rails_.size() ||
      rails_[gone->rail].state != RailState::kLost) {
    return invalid_argument("a note that nothing here has asked for");
  }
  rail_gone(gone->rail);
  return {};
}

Status VerbsEndpoint::on_accepted(const AcceptedNote& note) {
  if (!ready_ || notices_most_ > 0 || note.rails.size() > rails_.size()) {
    return invalid_argument("queue pairs that nobody here has offered");
  }
  notices_most_ = note.notifications;
  // Queue pairs go before the queue that they complete into.
  while (lanes_.size() > note.rails.size() * shared_.options.queue_pairs) lanes_.pop_back();
  rails_.resize(note.rails.size());
  for (uint32_t i = 0; i < rails_.size(); ++i) {
    if (note.rails[i].queues.size() != shared_.options.queue_pairs) {
      return invalid_argument("another number of queue pairs than was offered");
    }
  }
  probes_ = 1;  // this loop's own, so that none of it ends before all are sent
  for (uint32_t i = 0; i < lanes(); ++i) {
    SendLane& lane = lanes_[i];
    if (!lane.queue) continue;  // the rail's first lane has failed
    const RailAddress& address = note.rails[lane.rail];
    const Status connected =
        lane.queue.connect(address.port, address.queues[i % shared_.options.queue_pairs]);
    if (connected.ok()) {
      ++probes_;
      enqueue(lane, take_work(Kind::kProbe, {}));
      continue;
    }
    rail_lost(lane.rail, connected);
    if (!link_) return {};
  }
  probe_ended();
  return {};
}

// The queue pairs are of use when a write of no bytes has come through; a rail without a way to the
// peer is found out here, and not by the first transfer.
void VerbsEndpoint::probe_ended() {
  if (--probes_ > 0 || !link_) return;
  if (!has_rail(RailState::kLost)) link_->clear_deadline();
  tell({});
}

// Later: who is told may end this endpoint, and a completion queue may be being drained.
void VerbsEndpoint::tell(const Status& outcome) {
  if (!ready_) return;
  if (!told_ || outcome_.ok()) outcome_ = outcome;  // it may still fail before it is told
  told_ = true;
  telling_->schedule();
}

void VerbsEndpoint::lane_failed(SendLane& lane, const ibv_wc& work) {
  const std::string& device = shared_.devices[lane.rail]->name();
  const Status why = work_status(work.status, work.vendor_err, device);
  if (fault_of(work.status) == WorkFault::kPath) return rail_lost(lane.rail, why);
  // Another way would end alike. The call is told why; the others may be tried again.
  finish(lane, lane.posted.pop_front(), why);
  fail(unavailable(
      fmt::format("a request to peer {:x} broke the connection: {}", peer_, why.message())));
}

void VerbsEndpoint::rail_lost(uint32_t rail, const Status& why) {
  if (rails_[rail].state != RailState::kUp) return;
  rails_[rail].state = RailState::kLost;
  if (!has_rail(RailState::kUp)) return fail(why);
  log().warning("verbs: rail {} to peer {:x} is set aside: {}", shared_.devices[rail]->name(),
                peer_, why.message());
  break_rail(rail);
  const auto number = static_cast<uint8_t>(rail);
  link_->send(encode_note(RailLostNote{number}));
  link_->set_deadline(shared_.options.handshake_timeout);  // of its answer
}

void VerbsEndpoint::device_failed(size_t rail) {
  if (!link_ || rail >= rails_.size()) return;
  const std::string& device = shared_.devices[rail]->name();
  rail_lost(static_cast<uint32_t>(rail), unavailable(device + " has failed"));
}

// Break this side's end. What was under way waits again, in its order.
void VerbsEndpoint::break_rail(uint32_t rail) {
  rails_[rail].completions->set_due(false);
  for (SendLane& lane : lanes_) {
    if (lane.rail != rail) continue;
    lane.queue.destroy();
    lane.notices = 0;
    while (!lane.posted.empty()) {
      const uint32_t index = lane.posted.pop_back();
      if (works_[index].kind == Kind::kProbe) {
        finish(lane, index, unavailable("the rail does not reach the peer"));
      } else {
        lane.waiting.push_front(index);
      }
    }
  }
}

void VerbsEndpoint::rail_gone(uint32_t rail) {
  rails_[rail].state = RailState::kGone;
  if (!ready_ && !has_rail(RailState::kLost)) link_->clear_deadline();
  for (SendLane& lane : lanes_) {
    if (lane.rail != rail) continue;
    SendLane& heir = lane_for_call();
    lane.heir = static_cast<uint32_t>(&heir - lanes_.data());
    while (!lane.waiting.empty()) {
      const uint32_t index = lane.waiting.pop_front();
      if (works_[index].stopped) {
        finish(lane, index, cancelled("the transfer was stopped"));
      } else if (works_[index].kind == Kind::kProbe) {
        finish(lane, index, unavailable("the rail does not reach the peer"));
      } else {
        lane.bytes -= works_[index].bytes;
        enqueue(heir, index);
      }
    }
  }
}

std::string VerbsEndpoint::route() const {
  std::vector<std::string> names;
  for (size_t i = 0; i < rails_.size(); ++i) {
    const bool up = rails_[i].state == RailState::kUp;
    names.push_back(shared_.devices[i]->name() + (up ? "" : " (set aside)"));
  }
  return fmt::format("{}, {} x {} queue pairs", to_string(shared_.devices.front()->address().kind),
                     fmt::join(names, ", "), shared_.options.queue_pairs);
}

void VerbsEndpoint::close() {
  end(unavailable(fmt::format("the verbs connection to peer {:x} was closed", peer_)));
}

void VerbsEndpoint::end(const Status& why) {
  if (!link_) return;
  link_->close();
  link_.reset();
  end_all();
  tell(why);
}

void VerbsEndpoint::end_all() {
  for (SendLane& lane : lanes_) lane.queue.destroy();
  for (Rail& rail : rails_) rail.completions->set_due(false);
  for (SendLane& lane : lanes_) {
    for (WorkRing* ring : {&lane.posted, &lane.waiting}) {
      while (!ring->empty()) {
        finish(lane, ring->pop_front(),
               unavailable(fmt::format("the verbs connection to peer {:x} is closed", peer_)));
      }
    }
  }
}

void VerbsEndpoint::fail(const Status& why) {
  const Status told = why.with_context(fmt::format("verbs peer {:x}", peer_));
  const bool connecting = static_cast<bool>(ready_);
  end(told);
  if (!connecting) shared_.events->lost(peer_, Direction::kOutbound, told);
}

void VerbsEndpoint::on_closed(const Status& why) {
  fail(why);
}

}  // namespace mempool
