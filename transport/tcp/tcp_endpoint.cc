// SPDX-License-Identifier: Apache-2.0
// Owns the life of a call on a tcp endpoint, from post to completion.
#include "transport/tcp/tcp_endpoint.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/check.h"

namespace mempool {
namespace {

// A frame that was stopped half-way is made up with zeros after its call has completed; there is
// never more than one on a stream.
constexpr size_t kQueuedMax = kTcpCallsInFlight + 1;
constexpr int kIndexBits = 8;

void add_place(std::vector<iovec>& places, std::byte* at, uint64_t bytes) {
  if (!places.empty() &&
      static_cast<std::byte*>(places.back().iov_base) + places.back().iov_len == at) {
    places.back().iov_len += bytes;
  } else {
    places.push_back({at, bytes});
  }
}

}  // namespace

TcpEndpoint::TcpEndpoint(TcpSource& source, uint64_t peer,
                         std::vector<boost::asio::ip::tcp::socket> sockets)
    : source_(source), peer_(peer) {
  for (boost::asio::ip::tcp::socket& socket : sockets) {
    streams_.push_back(std::make_shared<Stream>(std::move(socket), static_cast<StreamOwner&>(*this),
                                                kQueuedMax, counts_));
    streams_.back()->start();
  }
  source_.endpoints.push_back(this);
}

TcpEndpoint::~TcpEndpoint() {
  close();
  std::erase(source_.endpoints, this);
  source_.ended += counts_;
}

Status TcpEndpoint::import_key(uint32_t remote_region, std::span<const std::byte> key) {
  MEMPOOL_ASSIGN_OR_RETURN(const RegionKey parsed, decode_region_key(key, peer_, remote_region));
  remote_bytes_[remote_region] = parsed.bytes;
  return {};
}

Status TcpEndpoint::check_room() const {
  if (closed_) return unavailable(fmt::format("the connection to peer {:x} is closed", peer_));
  if (*in_flight_ < kTcpCallsInFlight) return {};
  return resource_exhausted(
      fmt::format("{} calls to peer {:x} are under way", kTcpCallsInFlight, peer_));
}

// Give a pending call that is not in use. Requires: check_room(), which counts at least the busy.
TcpEndpoint::Pending& TcpEndpoint::spare() {
  const auto found = std::find_if(pending_.begin(), pending_.end(),
                                  [](const Pending& pending) { return !pending.busy; });
  MEMPOOL_CHECK(found != pending_.end());
  return *found;
}

uint64_t TcpEndpoint::tag_of(const Pending& pending) const {
  return uint64_t{pending.sequence} << kIndexBits | static_cast<size_t>(&pending - pending_.data());
}

TcpEndpoint::Pending* TcpEndpoint::find(uint64_t tag) {
  const size_t index = tag & ((1u << kIndexBits) - 1);
  if (index >= pending_.size()) return nullptr;
  Pending& pending = pending_[index];
  return pending.busy && pending.sequence == tag >> kIndexBits ? &pending : nullptr;
}

void TcpEndpoint::finish(Pending& pending, Status status) {
  pending.busy = false;
  ++pending.sequence;
  source_.events->completed(pending.cookie, std::move(status), in_flight_);
}

void TcpEndpoint::finish_all(const Status& status) {
  for (Pending& pending : pending_) {
    if (pending.busy) finish(pending, status);
  }
}

OutgoingFrame& TcpEndpoint::draft(Stream& stream, FrameType type, Slot slot,
                                  const Pending& pending) {
  OutgoingFrame* frame = stream.queue().draft();
  MEMPOOL_CHECK(frame != nullptr);  // a queue has room for every pending call
  frame->start({type, false, slot, tag_of(pending)});
  return *frame;
}

void TcpEndpoint::begin(Pending& pending, FrameType type, Slot slot, uint64_t cookie) {
  pending.type = type;
  pending.busy = true;
  pending.stopped = false;
  pending.replied = false;
  pending.landed = false;
  pending.slot = slot;
  pending.cookie = cookie;
  pending.frames_left = 1;
  ++*in_flight_;
}

Status TcpEndpoint::post(const Call& call) {
  MEMPOOL_RETURN_IF_ERROR(check_room());
  const FrameType type = call.operation == Operation::kWrite ? FrameType::kWrite : FrameType::kRead;
  Stream& stream = *streams_[next_stream_];
  Pending& pending = spare();
  OutgoingFrame& frame = draft(stream, type, call.slot, pending);
  pending.places.clear();
  MEMPOOL_RETURN_IF_ERROR(fill(call, frame, pending.places));
  pending.bytes = static_cast<uint32_t>(frame.bytes());
  begin(pending, type, call.slot, call.cookie);
  stream.queue().push();
  stream.flush();
  next_stream_ = (next_stream_ + 1) % streams_.size();

  ++counts_.network_calls;
  counts_.run_pairs += call.pairs.size();
  counts_.bytes += pending.bytes;
  return {};
}

Status TcpEndpoint::check_pair(const RunPair& pair) const {
  const auto remote = remote_bytes_.find(pair.remote_region);
  if (pair.bytes > 0 && remote != remote_bytes_.end() &&
      lies_inside(remote->second, pair.remote_offset, pair.bytes)) {
    return {};
  }
  return invalid_argument(
      fmt::format("{} bytes at {} of region {} of peer {:x} are outside what its keys name",
                  pair.bytes, pair.remote_offset, pair.remote_region, peer_));
}

Status TcpEndpoint::fill(const Call& call, OutgoingFrame& frame, std::vector<iovec>& places) const {
  for (const RunPair& pair : call.pairs) {
    MEMPOOL_RETURN_IF_ERROR(check_pair(pair));
    std::byte* local = source_.regions.resolve(pair.local_region, pair.local_offset, pair.bytes);
    if (local == nullptr) {
      return invalid_argument(fmt::format("{} bytes at {} of local region {} are not registered",
                                          pair.bytes, pair.local_offset, pair.local_region));
    }
    if (pair.bytes > kTcpFrameBytesMax - frame.bytes()) {
      return unsupported(fmt::format("a call takes at most {} bytes", kTcpFrameBytesMax));
    }
    frame.add_range(pair.remote_region, pair.remote_offset, pair.bytes);
    if (call.operation == Operation::kWrite) {
      frame.add_piece(local, pair.bytes);
    } else {
      add_place(places, local, pair.bytes);
    }
  }
  const size_t pieces = std::max(frame.pieces(), places.size());
  if (frame.ranges() == 0) return invalid_argument("a call without run pairs");
  if (frame.ranges() <= kFrameRangesMax && pieces <= kFrameRangesMax) return {};
  return unsupported(fmt::format("a call of {} pieces and {} ranges, tcp takes {} of each", pieces,
                                 frame.ranges(), kFrameRangesMax));
}

Status TcpEndpoint::notify(Slot slot, uint64_t cookie) {
  MEMPOOL_RETURN_IF_ERROR(check_room());
  Pending& pending = spare();
  for (const auto& stream : streams_) {
    draft(*stream, FrameType::kNotify, slot, pending);
    stream->queue().push();
    stream->flush();
  }
  begin(pending, FrameType::kNotify, slot, cookie);
  pending.frames_left = lanes();
  counts_.network_calls += lanes();
  return {};
}

void TcpEndpoint::stop(Slot slot) {
  for (const auto& stream : streams_) {
    stream->queue().stop(slot);
    stream->reader().discard(slot);
  }
  // Reads that the peer has been asked for complete when it has answered; nothing of that lands.
  for (Pending& pending : pending_) {
    if (pending.slot == slot) pending.stopped = true;
  }
}

void TcpEndpoint::on_sent(const FrameHeader& header) {
  if (header.type == FrameType::kRead) return;  // completes with its reply
  Pending* pending = find(header.tag);
  if (pending != nullptr && --pending->frames_left == 0) finish(*pending, {});
}

void TcpEndpoint::on_stopped(const FrameHeader& header) {
  Pending* pending = find(header.tag);
  if (pending != nullptr) finish(*pending, cancelled("the slot was stopped"));
}

Result<Landing> TcpEndpoint::on_head(const FrameHeader& header, std::span<const FrameRange>,
                                     std::vector<iovec>& places) {
  Pending* pending = find(header.tag);
  const bool asked =
      pending != nullptr && pending->type == FrameType::kRead && pending->slot == header.slot;
  if (asked && header.type == FrameType::kReadEnd) return Landing::kDiscard;
  if (!asked || header.type != FrameType::kReadReply || pending->replied ||
      pending->bytes != header.bytes) {
    return invalid_argument(fmt::format("malformed frame: type {} of {} bytes was not asked for",
                                        static_cast<int>(header.type), header.bytes));
  }
  pending->replied = true;
  if (pending->stopped) return Landing::kDiscard;
  places = pending->places;
  return Landing::kPlace;
}

Status TcpEndpoint::on_frame(const FrameHeader& header, Landing) {
  Pending& pending = *find(header.tag);  // on_head() has found it
  if (header.type == FrameType::kReadReply) {
    pending.landed = true;
    return {};
  }
  // The end may have come on another stream than the reply: nothing may land after completion.
  if (pending.replied && !pending.landed) {
    return invalid_argument("malformed frame: a read ends before its bytes are here");
  }
  if (pending.stopped) {
    finish(pending, cancelled("the slot was stopped"));
  } else if (header.refused) {
    finish(pending, cancelled("the peer has closed the slot"));
  } else if (pending.landed) {
    finish(pending, {});
  } else {
    return invalid_argument("malformed frame: a read ends without its bytes");
  }
  return {};
}

void TcpEndpoint::close() {
  if (closed_) return;
  closed_ = true;
  for (const auto& stream : streams_) stream->close();
  finish_all(unavailable(fmt::format("the connection to peer {:x} was closed here", peer_)));
}

void TcpEndpoint::on_closed(const Status& why) {
  closed_ = true;
  const Status lost = why.with_context(fmt::format("connection to peer {:x}", peer_));
  for (const auto& stream : streams_) stream->close();
  finish_all(unavailable(std::string(lost.message())));
  source_.events->lost(peer_, Direction::kOutbound, lost);
}

bool TcpEndpoint::uses(const std::byte* base, uint64_t bytes) const {
  const auto inside = [&](const iovec& place) {
    return overlap(place.iov_base, place.iov_len, base, bytes);
  };
  return std::any_of(pending_.begin(), pending_.end(),
                     [&](const Pending& pending) {
                       return pending.busy && pending.type == FrameType::kRead &&
                              std::any_of(pending.places.begin(), pending.places.end(), inside);
                     }) ||
         std::any_of(streams_.begin(), streams_.end(),
                     [&](const auto& stream) { return stream->queue().sends_from(base, bytes); });
}

}  // namespace mempool
