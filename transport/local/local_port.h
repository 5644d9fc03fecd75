// SPDX-License-Identifier: Apache-2.0
// Owns what the local transports of one process may touch of each other: the port of each, found by
// incarnation, with its regions and one door for each peer.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/gate.h"
#include "transport/event_queue.h"
#include "transport/transport.h"

namespace mempool {

/// A region as peers reach it. Shared by the port and every endpoint that imported its key: whoever
/// copies is inside `users`, and deregistering waits for it.
struct LocalRegion {
  Region region;
  Gate users;
};

class LocalPort;

/// A peer's way into a port, shared by the port and the peer's endpoints. Shutting it is the fence.
struct LocalDoor {
  std::shared_ptr<LocalPort> target;
  std::shared_ptr<LocalPort> source;
  Gate calls;  // copies under way

  /// The last copy behind a shut door has ended.
  void drained() const;
};

/// The half of a local transport that other threads reach. Shared by the transport, its doors and
/// the doors it goes through. Thread: safe, but for events().
class LocalPort : public std::enable_shared_from_this<LocalPort> {
 public:
  LocalPort(boost::asio::io_context& io, std::shared_ptr<EventQueue> events, uint64_t incarnation)
      : incarnation_(incarnation), io_(io), events_(std::move(events)) {}

  /// Make a port known to the process. Errors: kAlreadyExists.
  static Status list(const std::shared_ptr<LocalPort>& port);
  /// Give the port of an incarnation; null when there is none.
  static std::shared_ptr<LocalPort> find(uint64_t incarnation);

  uint64_t incarnation() const { return incarnation_; }
  /// What the owner is told, and the slots it has open. Thread: confined to the owner's thread.
  EventQueue& events() { return *events_; }

  /// Run `action(LocalPort&)` on the owner's thread, unless its transport is gone.
  template <typename Action>
  void deliver(Action action) {
    if (!deliveries_.enter()) return;
    boost::asio::post(io_, [self = shared_from_this(), action = std::move(action)] {
      if (!self->events_->closed()) action(*self);
    });
    deliveries_.leave();
  }

  void add_region(const Region& region);
  /// Let nobody copy to or from a region any more, and wait until nobody does.
  void remove_region(uint32_t id);
  std::shared_ptr<LocalRegion> region(uint32_t id) const;

  /// Give the door of a peer, a new one after a fence.
  std::shared_ptr<LocalDoor> door(const std::shared_ptr<LocalPort>& source);
  /// Take a peer's door out, so that its next connect gets a new one. Null when it has none.
  std::shared_ptr<LocalDoor> take_door(uint64_t peer);
  /// Go: unlisted, every door shut and drained, nothing delivered any more.
  void close();

 private:
  const uint64_t incarnation_;
  boost::asio::io_context& io_;
  const std::shared_ptr<EventQueue> events_;  // shared with what it has posted
  Gate deliveries_;  // those that use io_, which may go once the transport is gone
  mutable std::mutex mutex_;
  std::unordered_map<uint32_t, std::shared_ptr<LocalRegion>> regions_;  // under mutex_
  std::unordered_map<uint64_t, std::shared_ptr<LocalDoor>> doors_;      // by peer, under mutex_
};

}  // namespace mempool
