// SPDX-License-Identifier: Apache-2.0
// Owns the serving of peers' frames.
#include "transport/tcp/tcp_target.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/check.h"
#include "transport/tcp/tcp_options.h"

namespace mempool {

/// One stream that a peer opened. Thread: confined, as its target.
class TcpTarget::Inbound final : public StreamOwner {
 public:
  Inbound(TcpTarget& target, const Dialer& dialer, boost::asio::ip::tcp::socket socket)
      : target_(target),
        dialer_(dialer),
        stream_(std::make_shared<Stream>(std::move(socket), *this, kRepliesMax, target.served_)) {
    stream_->start();
  }
  ~Inbound() override { stream_->close(); }

  const Dialer& dialer() const { return dialer_; }
  Stream& stream() { return *stream_; }

  Result<Landing> on_head(const FrameHeader& header, std::span<const FrameRange> ranges,
                          std::vector<iovec>& places) override;
  Status on_frame(const FrameHeader& header, Landing) override;
  void on_sent(const FrameHeader&) override {}
  void on_stopped(const FrameHeader&) override {}
  void on_closed(const Status& why) override { target_.lose(Dialer(dialer_), why); }

 private:
  // A read is answered by two frames.
  static constexpr size_t kRepliesMax = 2 * kTcpCallsInFlight;

  bool is_open(Slot slot) const {
    return target_.events_.slots().is_open(dialer_.incarnation, slot);
  }
  Result<std::byte*> admit(const FrameHeader& header, const FrameRange& range) const;
  Status serve_read(const FrameHeader& header, std::span<const FrameRange> ranges);
  Status send_read_end(const FrameHeader& request, bool refused);

  TcpTarget& target_;
  const Dialer dialer_;
  std::shared_ptr<Stream> stream_;  // shared with the handlers that wait for its socket
};

Result<std::byte*> TcpTarget::Inbound::admit(const FrameHeader& header,
                                             const FrameRange& range) const {
  std::byte* at = target_.regions_.resolve(range.region, range.offset, range.bytes);
  if (at == nullptr) {
    return permission_denied(fmt::format("{} bytes at {} of region {} are not registered here",
                                         range.bytes, range.offset, range.region));
  }
  const Operation operation =
      header.type == FrameType::kWrite ? Operation::kWrite : Operation::kRead;
  if (!target_.judge_.admits(dialer_.incarnation, header.slot, operation, range.region,
                             range.offset, range.bytes)) {
    return permission_denied(fmt::format("{} bytes at {} of region {} are not of slot {}",
                                         range.bytes, range.offset, range.region,
                                         header.slot.index));
  }
  return at;
}

Result<Landing> TcpTarget::Inbound::on_head(const FrameHeader& header,
                                            std::span<const FrameRange> ranges,
                                            std::vector<iovec>& places) {
  switch (header.type) {
    case FrameType::kWrite:
      if (!is_open(header.slot)) return Landing::kDiscard;
      for (const FrameRange& range : ranges) {
        MEMPOOL_ASSIGN_OR_RETURN(std::byte* const at, admit(header, range));
        places.push_back({at, range.bytes});
      }
      target_.served_.bytes += header.bytes;
      return Landing::kPlace;
    case FrameType::kRead:
      MEMPOOL_RETURN_IF_ERROR(serve_read(header, ranges));
      return Landing::kDiscard;
    case FrameType::kNotify:
      return Landing::kDiscard;
    default:
      return invalid_argument(fmt::format("malformed frame: type {} is not for a target",
                                          static_cast<int>(header.type)));
  }
}

Status TcpTarget::Inbound::on_frame(const FrameHeader& header, Landing) {
  if (header.type == FrameType::kNotify) {
    target_.events_.notified(dialer_.incarnation, header.slot);
  }
  return {};
}

Status TcpTarget::Inbound::serve_read(const FrameHeader& header,
                                      std::span<const FrameRange> ranges) {
  if (!is_open(header.slot)) return send_read_end(header, true);
  OutgoingFrame* reply = stream_->queue().draft();
  if (reply == nullptr) return invalid_argument("more reads under way than were agreed");
  reply->start({FrameType::kReadReply, false, header.slot, header.tag});
  for (const FrameRange& range : ranges) {
    MEMPOOL_ASSIGN_OR_RETURN(const std::byte* const at, admit(header, range));
    reply->add_piece(at, range.bytes);
  }
  stream_->queue().push();
  target_.served_.bytes += header.bytes;
  ++target_.served_.network_calls;
  return send_read_end(header, false);
}

Status TcpTarget::Inbound::send_read_end(const FrameHeader& request, bool refused) {
  OutgoingFrame* end = stream_->queue().draft();
  if (end == nullptr) return invalid_argument("more reads under way than were agreed");
  end->start({FrameType::kReadEnd, refused, request.slot, request.tag});
  stream_->queue().push();
  ++target_.served_.network_calls;
  stream_->flush();
  return {};
}

TcpTarget::TcpTarget(const RegionTable& regions, EventQueue& events, TransportEvents& judge)
    : regions_(regions), events_(events), judge_(judge) {}

TcpTarget::~TcpTarget() = default;

bool TcpTarget::adopt(boost::asio::ip::tcp::socket socket, const Dialer& dialer) {
  const auto of_peer = std::ranges::count_if(
      inbound_, [&](const auto& one) { return one->dialer().incarnation == dialer.incarnation; });
  if (static_cast<size_t>(of_peer) >= kStreamsPerPeerMax || inbound_.size() >= kStreamsMax)
    return false;
  inbound_.push_back(std::make_unique<Inbound>(*this, dialer, std::move(socket)));
  return true;
}

void TcpTarget::close_slot(uint64_t peer, Slot slot) {
  events_.slots().close(peer, slot);
  for (const auto& inbound : inbound_) {
    if (inbound->dialer().incarnation != peer) continue;
    inbound->stream().reader().discard(slot);
    inbound->stream().queue().stop(slot);
  }
}

void TcpTarget::drop(uint64_t peer) {
  std::erase_if(inbound_, [&](const auto& one) { return one->dialer().incarnation == peer; });
  events_.slots().forget(peer);
}

bool TcpTarget::uses(const std::byte* base, uint64_t bytes) const {
  for (const auto& inbound : inbound_) {
    Stream& stream = inbound->stream();
    if (stream.reader().lands_in(base, bytes) || stream.queue().sends_from(base, bytes))
      return true;
  }
  return false;
}

// All streams of one connection go together.
void TcpTarget::lose(const Dialer& dialer, const Status& why) {
  std::erase_if(inbound_, [&](const auto& one) {
    return one->dialer().incarnation == dialer.incarnation &&
           one->dialer().connection == dialer.connection;
  });
  events_.lost(dialer.incarnation, Direction::kInbound,
               why.with_context(fmt::format("connection from peer {:x}", dialer.incarnation)));
}

}  // namespace mempool
