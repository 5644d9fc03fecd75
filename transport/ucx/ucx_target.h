// SPDX-License-Identifier: Apache-2.0
// Owns the target's half of the ucx backend: a worker for each connection that a peer opened. It
// moves what UCX has no NIC for, hears notifications, and with it goes all that the peer can do.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "core/log.h"
#include "transport/event_queue.h"
#include "transport/loop.h"
#include "transport/ucx/ucx_worker.h"

namespace mempool {

/// Thread: confined to the loop's thread.
class UcxTarget {
 public:
  /// A dialer has `timeout` to greet.
  UcxTarget(ucp_context_h context, Loop& loop, EventQueue& events,
            std::chrono::milliseconds timeout);
  ~UcxTarget();

  /// Connections that one peer, and all together, may have open here: each costs descriptors.
  static constexpr size_t kPerPeerMax = 8;
  static constexpr size_t kInboundMax = 1024;

  /// Serve a connection whose dialer has proven itself, or tell it why not.
  void adopt(std::shared_ptr<SetupLink> link, uint64_t peer);
  /// Close all connections and slots of a peer, without a word. Nothing of it lands afterwards.
  void drop(uint64_t peer);
  /// Notifications that came for no open slot.
  uint64_t strays() const { return strays_; }

 private:
  class Inbound;
  Status check_room(uint64_t peer) const;
  void lose(const Inbound& inbound, const Status& why);

  const ucp_context_h context_;
  Loop& loop_;
  EventQueue& events_;
  const std::chrono::milliseconds timeout_;
  BoundedLog refusals_;
  uint64_t strays_ = 0;
  std::vector<std::unique_ptr<Inbound>> inbound_;
};

}  // namespace mempool
