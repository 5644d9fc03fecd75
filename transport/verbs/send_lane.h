// SPDX-License-Identifier: Apache-2.0
// Owns what waits for, and what is under way on, one queue pair of an endpoint.
#pragma once

#include <cstdint>
#include <vector>

#include "core/check.h"
#include "transport/verbs/queue_pair.h"

namespace mempool {

/// A queue of numbers of a fixed capacity, so that the data path allocates nothing.
/// Thread: confined.
class WorkRing {
 public:
  explicit WorkRing(size_t capacity) : places_(capacity) {}

  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  uint32_t front() const {
    MEMPOOL_CHECK(size_ > 0);
    return places_[first_];
  }
  void push_back(uint32_t work) {
    MEMPOOL_CHECK(size_ < places_.size());
    places_[(first_ + size_++) % places_.size()] = work;
  }
  void push_front(uint32_t work) {
    MEMPOOL_CHECK(size_ < places_.size());
    first_ = (first_ + places_.size() - 1) % places_.size();
    places_[first_] = work;
    ++size_;
  }
  uint32_t pop_front() {
    const uint32_t work = front();
    first_ = (first_ + 1) % places_.size();
    --size_;
    return work;
  }
  uint32_t pop_back() {
    MEMPOOL_CHECK(size_ > 0);
    return places_[(first_ + --size_) % places_.size()];
  }

 private:
  std::vector<uint32_t> places_;
  size_t first_ = 0;
  size_t size_ = 0;
};

/// One queue pair, or what is left of it. A lane whose rail is lost keeps what it had in `waiting`
/// until the peer has broken its end too; then another lane, its heir, takes that and all that
/// would come. Thread: confined.
struct SendLane {
  static constexpr uint32_t kNoHeir = UINT32_MAX;

  SendLane(uint32_t on_rail, QueuePair pair, size_t capacity)
      : rail(on_rail), queue(std::move(pair)), waiting(capacity), posted(capacity) {}

  uint32_t rail = 0;
  uint32_t heir = kNoHeir;
  QueuePair queue;       // empty once the rail is lost
  WorkRing waiting;      // for room, in order
  WorkRing posted;       // in order
  uint64_t bytes = 0;    // of both
  uint32_t rounds = 0;   // of notifications of this lane, by whichever queue pair they went
  uint32_t notices = 0;  // posted
};

}  // namespace mempool
