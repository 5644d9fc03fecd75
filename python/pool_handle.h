// SPDX-License-Identifier: Apache-2.0
// Owns a pool as Python holds it: who is inside of it, what it keeps alive, and its end.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <string>
#include <utility>

#include "core/fork_mark.h"
#include "core/gate.h"
#include "mempool/agent.h"
#include "python/array_view.h"

namespace mempool::python {

/// The GIL protects what it holds; calls leave it to others while they wait. Thread: safe.
class PoolHandle {
 public:
  /// Requires: the GIL, here and for the end. `beside`: each call is a round trip to another
  /// process.
  PoolHandle(std::unique_ptr<Pool> pool, bool beside);
  virtual ~PoolHandle() = default;  // nobody is inside: a call holds the object
  PoolHandle(const PoolHandle&) = delete;
  PoolHandle& operator=(const PoolHandle&) = delete;

  /// End the calls that others wait in, and the pool: at once where it is embedded, else with the
  /// last view of its blocks. Again: nothing.
  void close();
  bool closed() const { return gate_.closed(); }
  /// Keeps the pool from its end. Thread: confined.
  class Inside {
   public:
    /// Raises Unavailable in a fork, or once the pool is closed.
    explicit Inside(PoolHandle& handle);

   private:
    const Visit visit_;
  };

  /// A call that may wait, hash or copy: without the GIL.
  template <typename Function>
  auto slow(Function function) {
    const Inside inside(*this);
    const nanobind::gil_scoped_release released;
    return function(*pool_);
  }
  /// A call that takes a short lock, for which giving the GIL away would cost more than the call;
  /// a pool of another process is asked without it.
  template <typename Function>
  auto quick(Function function) {
    if (beside_) return slow(function);
    const Inside inside(*this);
    return function(*pool_);
  }

  ArrayView view(const SegmentView& segment);
  ArrayView view(const SegmentView& segment, const BlockAddress& block, uint32_t layer,
                 uint32_t part);
  /// Find the segment of a block in a shard, and its number. Raises InvalidArgument where the pool
  /// has none.
  std::pair<SegmentView, size_t> holding(const BlockAddress& block, uint32_t shard);

 private:
  ArrayView kept(ArrayView view);

  const ForkMark made_in_;
  const bool beside_;
  Gate gate_;
  std::shared_ptr<Pool> pool_;  // shared with the views of an attached pool
};

/// An agent in this process. Its calls are those of a Pool that is an Agent. Thread: safe.
class AgentHandle final : public PoolHandle {
 public:
  AgentHandle(std::unique_ptr<Agent> agent, const AgentStatus& status);

  const std::string name;
  const std::string listen;  // host:port that was bound
};

}  // namespace mempool::python
