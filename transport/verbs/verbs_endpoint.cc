// SPDX-License-Identifier: Apache-2.0
// Owns the life of a call: its checks, its work request, its end.
#include "transport/verbs/verbs_endpoint.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/check.h"
#include "transport/verbs/immediate.h"
#include "transport/verbs/work_status.h"

namespace mempool {
namespace {

// notify() calls under way; each takes a work request on every lane.
constexpr uint32_t kNoticesMost = 16;
constexpr uint32_t kLaneShift = 32;  // of a request's id, above its work

}  // namespace

VerbsEndpoint::VerbsEndpoint(VerbsShared& shared, uint64_t peer)
    : shared_(shared),
      peer_(peer),
      pieces_most_(
          std::max(shared.capabilities.gather_pieces, shared.capabilities.scatter_pieces)) {
  const size_t lanes = shared_.devices.size() * shared_.options.queue_pairs;
  works_.resize(shared_.capabilities.calls_in_flight + kNoticesMost * lanes);
  pieces_.resize(works_.size() * pieces_most_);
  notices_.resize(kNoticesMost);
  for (uint32_t i = static_cast<uint32_t>(works_.size()); i-- > 0;) free_works_.push_back(i);
  for (uint32_t i = kNoticesMost; i-- > 0;) free_notices_.push_back(i);
  counts_.system_calls.reset();  // they are the device's library's
  flushing_ = shared_.loop.make_task([this] { flush(); });
  telling_ = shared_.loop.make_task([this] { std::exchange(ready_, nullptr)(outcome_); });
  shared_.endpoints.push_back(this);
}

VerbsEndpoint::~VerbsEndpoint() {
  close();
  std::erase(shared_.endpoints, this);
  shared_.ended += counts_;
}

Status VerbsEndpoint::import_key(uint32_t remote_region, std::span<const std::byte> key) {
  MEMPOOL_ASSIGN_OR_RETURN(RemoteRegion region, decode_remote_key(key, peer_, remote_region));
  if (region.keys.size() < rails_.size()) {
    return invalid_argument(
        fmt::format("key of region {} is for {} devices, the connection uses {}", remote_region,
                    region.keys.size(), rails_.size()));
  }
  remote_[remote_region] = std::move(region);
  return {};
}

Status VerbsEndpoint::check_open() const {
  if (!link_) {
    return unavailable(fmt::format("the verbs connection to peer {:x} is closed", peer_));
  }
  const uint32_t most = shared_.capabilities.calls_in_flight;
  if (*in_flight_ < most) return {};
  return resource_exhausted(fmt::format("{} calls to peer {:x} are under way", most, peer_));
}

Status VerbsEndpoint::check_limits(const Call& call) const {
  const CallLimits limits = shared_.capabilities.limits(call.operation);
  if (call.pairs.empty() || call.pairs.size() > limits.local_pieces) {
    return unsupported(fmt::format("a call of {} pieces, verbs takes 1 to {}", call.pairs.size(),
                                   limits.local_pieces));
  }
  uint64_t bytes = 0;
  const RunPair& first = call.pairs.front();
  for (const RunPair& pair : call.pairs) {
    if (pair.remote_region != first.remote_region ||
        pair.remote_offset != first.remote_offset + bytes) {
      return unsupported("a call of two ranges at the peer; a work request has one");
    }
    bytes += pair.bytes;
  }
  if (bytes <= limits.bytes) return {};
  return unsupported(fmt::format("a call of {} bytes, verbs takes {}", bytes, limits.bytes));
}

// Where the bytes of a call within the limits lie, here and at the peer.
Status VerbsEndpoint::find_ranges(const Call& call, Work& work, std::span<Piece> pieces) {
  for (size_t i = 0; i < call.pairs.size(); ++i) {
    const RunPair& pair = call.pairs[i];
    RegisteredRegion* region =
        shared_.memory.resolve(pair.local_region, pair.local_offset, pair.bytes);
    if (region == nullptr) {
      return invalid_argument(fmt::format("{} bytes at {} of local region {} are not registered",
                                          pair.bytes, pair.local_offset, pair.local_region));
    }
    pieces[i] = {region, pair.local_offset, static_cast<uint32_t>(pair.bytes)};
    work.bytes += pair.bytes;
  }
  const RunPair& first = call.pairs.front();
  const auto found = remote_.find(first.remote_region);
  if (found == remote_.end() ||
      !lies_inside(found->second.bytes, first.remote_offset, work.bytes)) {
    return invalid_argument(
        fmt::format("{} bytes at {} of region {} of peer {:x} are outside what its keys name",
                    work.bytes, first.remote_offset, first.remote_region, peer_));
  }
  work.remote = &found->second;
  work.remote_offset = first.remote_offset;
  work.pieces = static_cast<uint32_t>(call.pairs.size());
  return {};
}

uint32_t VerbsEndpoint::take_work(Kind kind, Slot slot) {
  MEMPOOL_CHECK(!free_works_.empty());  // as many as calls and notices can be
  const uint32_t index = free_works_.back();
  free_works_.pop_back();
  works_[index] = {.kind = kind, .slot = slot};
  return index;
}

// The lane with the fewest bytes before it, so that a faster rail takes more of a large plan.
SendLane& VerbsEndpoint::lane_for_call() {
  SendLane* best = nullptr;
  for (SendLane& lane : lanes_) {
    if (lane.queue && (best == nullptr || lane.bytes < best->bytes)) best = &lane;
  }
  MEMPOOL_CHECK(best != nullptr);  // without any the endpoint is closed
  return *best;
}

SendLane& VerbsEndpoint::heir_of(SendLane& lane) {
  SendLane* heir = &lane;
  while (!heir->queue && heir->heir != SendLane::kNoHeir) heir = &lanes_[heir->heir];
  return *heir;
}

void VerbsEndpoint::enqueue(SendLane& lane, uint32_t index) {
  lane.waiting.push_back(index);
  lane.bytes += works_[index].bytes;
  flushing_->schedule();  // what is posted in one turn of the loop goes out by one list
}

Status VerbsEndpoint::post(const Call& call) {
  MEMPOOL_RETURN_IF_ERROR(check_open());
  MEMPOOL_RETURN_IF_ERROR(check_limits(call));
  const bool write = call.operation == Operation::kWrite;
  const uint32_t index = take_work(write ? Kind::kWrite : Kind::kRead, call.slot);
  Work& work = works_[index];
  work.cookie = call.cookie;
  const std::span<Piece> pieces = pieces_of(index);
  if (Status found = find_ranges(call, work, pieces); !found.ok()) {
    free_works_.push_back(index);
    return found;
  }
  for (const Piece& piece : pieces.first(work.pieces)) ++piece.region->uses;
  ++counts_.network_calls;
  counts_.run_pairs += call.pairs.size();
  counts_.bytes += work.bytes;
  ++*in_flight_;
  enqueue(lane_for_call(), index);
  return {};
}

Status VerbsEndpoint::notify(Slot slot, uint64_t cookie) {
  MEMPOOL_RETURN_IF_ERROR(check_open());
  if (slot.index >= kSlotsMost) {
    return unsupported(
        fmt::format("slot {}: verbs has room for {} in a notification; lower "
                    "limits.max_inbound at the peer",
                    slot.index, kSlotsMost));
  }
  if (free_notices_.empty()) {
    return resource_exhausted(
        fmt::format("{} notifications to peer {:x} are under way", kNoticesMost, peer_));
  }
  const uint32_t place = free_notices_.back();
  free_notices_.pop_back();
  notices_[place] = {cookie, lanes(), {}};
  for (uint32_t i = 0; i < lanes(); ++i) {
    const uint32_t index = take_work(Kind::kNotice, slot);
    works_[index].cookie = place;
    works_[index].lane = i;
    enqueue(heir_of(lanes_[i]), index);
  }
  counts_.network_calls += lanes();
  ++*in_flight_;
  return {};
}

void VerbsEndpoint::stop(Slot slot) {
  for (SendLane& lane : lanes_) {
    for (size_t left = lane.waiting.size(); left > 0; --left) {
      const uint32_t index = lane.waiting.pop_front();
      const bool stopped = works_[index].slot == slot && works_[index].kind != Kind::kProbe;
      if (stopped && lane.queue) {
        finish(lane, index, cancelled("the transfer was stopped"));
        continue;
      }
      // On a lost rail it may be under way still; its end is told when the peer has broken it too.
      works_[index].stopped |= stopped;
      lane.waiting.push_back(index);
    }
  }
}

void VerbsEndpoint::flush() {
  for (SendLane& lane : lanes_) flush(lane);
}

void VerbsEndpoint::flush(SendLane& lane) {
  while (lane.queue && !lane.waiting.empty() && make_requests(lane) > 0) {
    ++counts_.doorbells;
    ibv_send_wr* refused = nullptr;
    const int error = ibv_post_send(lane.queue.get(), shared_.requests.data(), &refused);
    if (error == 0) continue;
    const std::string& device = shared_.devices[lane.rail]->name();
    rail_lost(lane.rail, verbs_error(StatusCode::kUnavailable, device + ": post", error));
  }
  if (!shared_.options.spin || !lane.queue) return;
  rails_[lane.rail].completions->set_due(std::ranges::any_of(lanes_, [&](const SendLane& other) {
    return other.rail == lane.rail && !other.posted.empty();
  }));
}

// Fill the list with what there is room for: a window. The last request of each half of it asks for
// a completion, which tells of all before it too.
size_t VerbsEndpoint::make_requests(SendLane& lane) {
  const size_t window = shared_.options.queue_depth;
  size_t count = 0;
  ibv_sge* pieces = shared_.pieces.data();
  while (!lane.waiting.empty() && lane.posted.size() < window) {
    const uint32_t index = lane.waiting.front();
    Work& work = works_[index];
    if (work.kind == Kind::kNotice) {
      if (lane.notices == notices_most_) break;  // the peer has no receive for more
      ++lane.notices;
      if (!std::exchange(work.numbered, true)) work.round = ++lanes_[work.lane].rounds;
    }
    lane.posted.push_back(lane.waiting.pop_front());
    ibv_send_wr& request = shared_.requests[count];
    make_request(lane, index, request, pieces);
    pieces += request.num_sge;
    if (count > 0) shared_.requests[count - 1].next = &request;
    if (++count % (window / 2) == 0) request.send_flags = IBV_SEND_SIGNALED;
  }
  if (count > 0) shared_.requests[count - 1].send_flags = IBV_SEND_SIGNALED;
  return count;
}

void VerbsEndpoint::make_request(const SendLane& lane, uint32_t index, ibv_send_wr& request,
                                 ibv_sge* pieces) {
  const Work& work = works_[index];
  request = {};
  request.wr_id = (static_cast<uint64_t>(&lane - lanes_.data()) << kLaneShift) | index;
  request.sg_list = pieces;
  request.num_sge = static_cast<int>(work.pieces);
  switch (work.kind) {
    case Kind::kWrite:
      request.opcode = IBV_WR_RDMA_WRITE;
      break;
    case Kind::kRead:
      request.opcode = IBV_WR_RDMA_READ;
      break;
    case Kind::kNotice: {
      const Immediate said{work.lane, work.round, work.slot.generation, work.slot.index};
      request.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
      request.imm_data = htonl(said.bits());
      return;
    }
    case Kind::kProbe:  // of no bytes, for which the peer's device asks no key
      request.opcode = IBV_WR_RDMA_WRITE;
      return;
  }
  request.wr.rdma.remote_addr = work.remote->address + work.remote_offset;
  request.wr.rdma.rkey = work.remote->keys[lane.rail];
  for (const Piece& piece : pieces_of(index).first(work.pieces)) {
    const RegisteredRegion& region = *piece.region;
    *pieces++ = {reinterpret_cast<uint64_t>(region.region.base) + piece.offset, piece.bytes,
                 region.memories[lane.rail]->lkey};
  }
}

void VerbsEndpoint::on_work(const ibv_wc& work) {
  ++counts_.completions;
  SendLane& lane = lanes_[work.wr_id >> kLaneShift];
  const auto index = static_cast<uint32_t>(work.wr_id);
  if (!lane.queue) return;  // it was broken before, and what it had was taken back
  const auto next = [&] {
    lane.notices -= works_[lane.posted.front()].kind == Kind::kNotice ? 1 : 0;
    return lane.posted.pop_front();
  };
  // A queue pair works in order: what was posted before this one has succeeded.
  while (lane.posted.front() != index) finish(lane, next(), {});
  if (work.status != IBV_WC_SUCCESS) return lane_failed(lane, work);
  finish(lane, next(), {});
}

void VerbsEndpoint::on_drained() {
  flush();
}

void VerbsEndpoint::finish(SendLane& lane, uint32_t index, Status status) {
  Work& work = works_[index];
  lane.bytes -= work.bytes;
  for (const Piece& piece : pieces_of(index).first(work.pieces)) --piece.region->uses;
  free_works_.push_back(index);
  if (work.kind == Kind::kProbe) {
    probe_ended();
    return;
  }
  if (work.kind != Kind::kNotice) {
    shared_.events->completed(work.cookie, std::move(status), in_flight_);
    return;
  }
  const auto place = static_cast<uint32_t>(work.cookie);
  Notice& notice = notices_[place];
  if (notice.status.ok()) notice.status = std::move(status);
  if (--notice.left > 0) return;
  free_notices_.push_back(place);
  shared_.events->completed(notice.cookie, std::move(notice.status), in_flight_);
}

}  // namespace mempool
