// SPDX-License-Identifier: Apache-2.0
// Owns one way to one peer over tcp: turns calls into frames on its streams, and read replies back
// into completions.
#pragma once

#include <array>
#include <memory>
#include <unordered_map>
#include <vector>

#include "transport/event_queue.h"
#include "transport/region_table.h"
#include "transport/tcp/stream.h"
#include "transport/tcp/tcp_options.h"

namespace mempool {

class TcpEndpoint;

/// What the endpoints of one transport share with it. Thread: confined.
struct TcpSource {
  RegionTable regions;
  std::shared_ptr<EventQueue> events;  // shared with what it has posted
  std::vector<TcpEndpoint*> endpoints;
  CallCounts ended;  // of endpoints that are gone
};

/// Thread: confined to the io_context's thread.
class TcpEndpoint final : public Endpoint, private StreamOwner {
 public:
  TcpEndpoint(TcpSource& source, uint64_t peer, std::vector<boost::asio::ip::tcp::socket> sockets);
  ~TcpEndpoint() override;

  Status import_key(uint32_t remote_region, std::span<const std::byte> key) override;
  Status post(const Call& call) override;
  Status notify(Slot slot, uint64_t cookie) override;
  void stop(Slot slot) override;
  uint32_t lanes() const override { return static_cast<uint32_t>(streams_.size()); }
  CallCounts counts() const override { return counts_; }
  void close() override;

  uint64_t peer() const { return peer_; }
  /// Tell whether a call under way reads or writes these bytes.
  bool uses(const std::byte* base, uint64_t bytes) const;

 private:
  // A call or notification posted and not completed.
  struct Pending {
    FrameType type = FrameType::kWrite;
    bool busy = false;
    bool stopped = false;  // of a read: its reply is discarded
    bool replied = false;  // of a read: its reply has begun
    bool landed = false;   // of a read: all of its reply is here
    Slot slot;
    uint64_t cookie = 0;
    uint32_t sequence = 0;     // tells late frames of an earlier use apart
    uint32_t frames_left = 0;  // that have not been sent
    uint32_t bytes = 0;
    std::vector<iovec> places;  // of a read: where the reply goes
  };

  Status check_room() const;
  Pending& spare();
  uint64_t tag_of(const Pending& pending) const;
  Pending* find(uint64_t tag);
  OutgoingFrame& draft(Stream& stream, FrameType type, Slot slot, const Pending& pending);
  void begin(Pending& pending, FrameType type, Slot slot, uint64_t cookie);
  void finish(Pending& pending, Status status);
  void finish_all(const Status& status);
  Status fill(const Call& call, OutgoingFrame& frame, std::vector<iovec>& places) const;
  Status check_pair(const RunPair& pair) const;

  Result<Landing> on_head(const FrameHeader& header, std::span<const FrameRange> ranges,
                          std::vector<iovec>& places) override;
  Status on_frame(const FrameHeader& header, Landing landing) override;
  void on_sent(const FrameHeader& header) override;
  void on_stopped(const FrameHeader& header) override;
  void on_closed(const Status& why) override;

  TcpSource& source_;
  const uint64_t peer_;
  std::vector<std::shared_ptr<Stream>> streams_;  // shared with handlers that wait for a socket
  size_t next_stream_ = 0;
  std::unordered_map<uint32_t, uint64_t> remote_bytes_;  // size of each region of the peer
  std::array<Pending, kTcpCallsInFlight> pending_;
  CallsInFlight in_flight_ = std::make_shared<uint32_t>(0);
  CallCounts counts_;
  bool closed_ = false;
};

}  // namespace mempool
