// SPDX-License-Identifier: Apache-2.0
// Owns the ends of pools: by close(), by their last reference and by the end of the interpreter.
#include "python/pool_handle.h"

#include <fmt/format.h>

#include <utility>

#include "python/callback.h"
#include "python/raised_status.h"

namespace mempool::python {
namespace {

namespace nb = nanobind;

/// End a pool with the GIL held.
void end_pool(Pool* pool) {
  {
    const nb::gil_scoped_release released;  // it waits for its thread, and for the calls of others
    delete pool;
  }
  end_objects();
}

}  // namespace

PoolHandle::PoolHandle(std::unique_ptr<Pool> pool, bool beside)
    : beside_(beside), pool_(pool.release(), end_pool) {}

void PoolHandle::close() {
  if (!made_in_.here() || gate_.closed()) return;
  gate_.close();
  {
    const nb::gil_scoped_release released;
    pool_->stop();
    gate_.close_and_wait();
  }
  pool_.reset();
}

PoolHandle::Inside::Inside(PoolHandle& handle)
    : visit_((check(handle.made_in_.check()), handle.gate_)) {
  if (!visit_) raise(unavailable("the pool has been closed"));
}

ArrayView PoolHandle::kept(ArrayView view) {
  // An attached pool holds its blocks as long as it is attached, and its agent gives them to others
  // after that: what maps them keeps it so.
  using Owners = std::pair<std::shared_ptr<const void>, std::shared_ptr<const void>>;
  Owners owners(beside_ ? pool_ : nullptr, std::move(view.memory));
  // In a fork nothing is mapped there, or something of others.
  view.memory = std::shared_ptr<const void>(
      view.data, [owners = std::move(owners), here = made_in_](const void*) mutable {
        if (!here.here()) (void)new Owners(std::move(owners));
      });
  return view;
}

ArrayView PoolHandle::view(const SegmentView& segment) {
  return kept(ArrayView::of(segment));
}

ArrayView PoolHandle::view(const SegmentView& segment, const BlockAddress& block, uint32_t layer,
                           uint32_t part) {
  return kept(ArrayView::of(segment, block, layer, part));
}

std::pair<SegmentView, size_t> PoolHandle::holding(const BlockAddress& block, uint32_t shard) {
  for (size_t number = 0;; ++number) {
    Result<SegmentView> segment = quick([&](Pool& pool) { return pool.segment(number, shard); });
    if (!segment.ok() && segment.status().code() == StatusCode::kNotFound && number > 0) {
      raise(invalid_argument(fmt::format("block {} is not of this pool", to_string(block))));
    }
    SegmentView its = take(std::move(segment));
    if (block.index() - its.first_block < its.blocks) return {std::move(its), number};
  }
}

AgentHandle::AgentHandle(std::unique_ptr<Agent> agent, const AgentStatus& status)
    : PoolHandle(std::move(agent), false), name(status.name), listen(status.listen) {}

}  // namespace mempool::python
