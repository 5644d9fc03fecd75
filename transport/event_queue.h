// SPDX-License-Identifier: Apache-2.0
// Owns the way from a backend to the layer above: events wait here until the io_context's thread is
// outside of every call, so that none is delivered from inside post(), notify() or stop(). Keeps
// the open slots too: a notification is told only while its slot is one.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "transport/loop.h"
#include "transport/slot_book.h"
#include "transport/transport.h"

namespace mempool {

/// Calls of one endpoint whose completion has not been delivered. Shared with the queue, because an
/// endpoint may be destroyed while completions of its calls still wait.
using CallsInFlight = std::shared_ptr<uint32_t>;

/// Delivers in the order of the calls here. Its vectors keep their capacity, so a steady state
/// allocates nothing. Shared, because endpoints and what was posted may outlive the transport.
/// Thread: confined to the io_context's thread.
class EventQueue : public std::enable_shared_from_this<EventQueue> {
 public:
  EventQueue(Loop& loop, TransportEvents& events) : loop_(loop), events_(&events) {}

  SlotBook& slots() { return slots_; }

  void completed(uint64_t cookie, Status status, CallsInFlight calls);
  /// Told if the slot is open when its turn comes.
  void notified(uint64_t peer, Slot slot);
  void lost(uint64_t peer, Direction direction, Status why);
  void fenced(uint64_t peer);
  /// Deliver nothing any more: the transport is going.
  void close() { events_ = nullptr; }
  bool closed() const { return events_ == nullptr; }

 private:
  enum class Kind : uint8_t { kCompleted, kNotified, kLost, kFenced };
  struct Event {
    Kind kind;
    uint64_t word = 0;  // cookie or peer
    Slot slot;
    Status status;
    CallsInFlight calls;
    Direction direction = Direction::kOutbound;
  };

  void push(Event event);
  void deliver();

  Loop& loop_;
  TransportEvents* events_;
  SlotBook slots_;
  std::vector<Event> waiting_;
  std::vector<Event> delivering_;
  std::unique_ptr<LoopTask> delivery_;  // from the first event on
};

}  // namespace mempool
