// SPDX-License-Identifier: Apache-2.0
// Owns the target's half of the tcp backend: the connections that peers opened, and the rule that
// nothing lands outside registered memory, an open slot and what that slot reserved.
#pragma once

#include <memory>
#include <vector>

#include "transport/event_queue.h"
#include "transport/region_table.h"
#include "transport/handshake.h"
#include "transport/tcp/stream.h"

namespace mempool {

/// Thread: confined to the io_context's thread.
class TcpTarget {
 public:
  /// `judge` is asked for every range; what happens is told through `events`.
  TcpTarget(const RegionTable& regions, EventQueue& events, TransportEvents& judge);
  ~TcpTarget();

  /// Streams that one peer, and all together, may have open here.
  static constexpr size_t kStreamsPerPeerMax = 128;
  static constexpr size_t kStreamsMax = 4096;

  /// Serve a connection whose dialer has proven itself; false, and it is closed, past the limits.
  bool adopt(boost::asio::ip::tcp::socket socket, const Dialer& dialer);
  Status open_slot(uint64_t peer, Slot slot) { return events_.slots().open(peer, slot); }
  /// Discard what is still to come for the slot, the rest of a frame under way too.
  void close_slot(uint64_t peer, Slot slot);
  /// Close all connections and slots of a peer, without a word.
  void drop(uint64_t peer);
  /// Tell whether a frame under way lands in, or is sent from, these bytes.
  bool uses(const std::byte* base, uint64_t bytes) const;
  const CallCounts& counts() const { return served_; }

 private:
  class Inbound;
  void lose(const Dialer& dialer, const Status& why);

  const RegionTable& regions_;
  EventQueue& events_;
  TransportEvents& judge_;
  std::vector<std::unique_ptr<Inbound>> inbound_;
  CallCounts served_;
};

}  // namespace mempool
