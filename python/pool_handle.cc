// SPDX-License-Identifier: Apache-2.0
// Owns the ends of pools: by close(), by their last reference and by the end of the interpreter.
#include "python/pool_handle.h"

#include <fmt/format.h>

#include <utility>

#include "python/raised_status.h"

namespace mempool::python {
namespace {

namespace nb = nanobind;

int delete_pool(void* pool) {
  const nb::gil_scoped_release released;  // its thread may wait for the GIL before it ends
  delete static_cast<Pool*>(pool);
  return 0;
}

/// End a pool with the GIL held. Where its own thread let go of it last it could not wait for
/// itself: then the main thread does it. Where even that cannot be asked, the pool lives on.
void end_pool(Pool* pool) {
  if (in_callback()) {
    (void)Py_AddPendingCall(delete_pool, pool);
  } else {
    delete_pool(pool);
  }
}

}  // namespace

PoolHandle::PoolHandle(std::unique_ptr<Pool> pool, Descriptor closing, bool beside)
    : beside_(beside), closing_(std::move(closing)), pool_(pool.release(), end_pool) {}

void PoolHandle::close() {
  if (!made_in_.here() || gate_.closed()) return;
  refuse_in_callback("close");
  gate_.close();
  {
    const nb::gil_scoped_release released;
    raise_event(closing_);
    gate_.close_and_wait();
  }
  pool_.reset();
  adopted.clear();
}

PoolHandle::Inside::Inside(PoolHandle& handle)
    : visit_((check(handle.made_in_.check()), handle.gate_)) {
  if (!visit_) raise(unavailable("the pool has been closed"));
}

ArrayView PoolHandle::kept(ArrayView view) {
  // An attached pool holds its blocks as long as it is attached, and its agent gives them to others
  // after that: what maps them keeps it so. Adopted memory is kept by its tensor, too.
  std::shared_ptr<const void> memory = beside_ ? pool_ : std::move(view.memory);
  // In a fork nothing is mapped there, or something of others.
  view.memory = std::shared_ptr<const void>(
      view.data, [memory = std::move(memory), here = made_in_](const void*) mutable {
        if (!here.here()) (void)new std::shared_ptr<const void>(std::move(memory));
      });
  for (const auto& [name, shards] : adopted) {
    for (const AdoptedTensor& shard : shards) {
      const auto offset = static_cast<uint64_t>(view.data - shard.memory.data);
      if (view.data >= shard.memory.data && offset < shard.memory.bytes) view.tensor = shard.tensor;
    }
  }
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

Descriptor make_closing() {
  return take(make_event());
}

AgentHandle::AgentHandle(std::unique_ptr<Agent> agent, Descriptor closing,
                         const AgentStatus& status)
    : PoolHandle(std::move(agent), std::move(closing), false),
      name(status.name),
      listen(status.listen) {}

}  // namespace mempool::python
