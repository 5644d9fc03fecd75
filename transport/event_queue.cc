// SPDX-License-Identifier: Apache-2.0
// Owns the delivery of a backend's events by a posted handler.
#include "transport/event_queue.h"

#include <utility>

namespace mempool {

void EventQueue::completed(uint64_t cookie, Status status, CallsInFlight calls) {
  push({Kind::kCompleted, cookie, {}, std::move(status), std::move(calls)});
}

void EventQueue::notified(uint64_t peer, Slot slot) {
  push({Kind::kNotified, peer, slot, {}, {}});
}

void EventQueue::lost(uint64_t peer, Direction direction, Status why) {
  push({Kind::kLost, peer, {}, std::move(why), {}, direction});
}

void EventQueue::fenced(uint64_t peer) {
  push({Kind::kFenced, peer, {}, {}, {}});
}

void EventQueue::push(Event event) {
  waiting_.push_back(std::move(event));
  if (!delivery_) {
    delivery_ = loop_.make_task([queue = weak_from_this()] {
      if (const auto self = queue.lock()) self->deliver();
    });
  }
  delivery_->schedule();
}

void EventQueue::deliver() {
  std::swap(waiting_, delivering_);
  for (Event& event : delivering_) {
    if (closed()) break;
    switch (event.kind) {
      case Kind::kCompleted:
        --*event.calls;
        events_->on_completion(event.word, event.status);
        break;
      case Kind::kNotified:
        if (slots_.is_open(event.word, event.slot)) events_->on_notified(event.word, event.slot);
        break;
      case Kind::kLost:
        events_->on_lost(event.word, event.direction, event.status);
        break;
      case Kind::kFenced:
        events_->on_fenced(event.word);
        break;
    }
  }
  delivering_.clear();
}

}  // namespace mempool
