// SPDX-License-Identifier: Apache-2.0
// Owns the owning pointers of what libibverbs gives out.
#pragma once

#include <infiniband/verbs.h>

#include <memory>

namespace mempool {

template <auto Destroy>
struct VerbsDelete {
  template <typename T>
  void operator()(T* object) const {
    Destroy(object);  // an error here means that something made of it is still there: our bug
  }
};

using ContextHandle = std::unique_ptr<ibv_context, VerbsDelete<&ibv_close_device>>;
using DomainHandle = std::unique_ptr<ibv_pd, VerbsDelete<&ibv_dealloc_pd>>;
using ChannelHandle = std::unique_ptr<ibv_comp_channel, VerbsDelete<&ibv_destroy_comp_channel>>;
using CompletionHandle = std::unique_ptr<ibv_cq, VerbsDelete<&ibv_destroy_cq>>;
using ReceiveHandle = std::unique_ptr<ibv_srq, VerbsDelete<&ibv_destroy_srq>>;
using QueueHandle = std::unique_ptr<ibv_qp, VerbsDelete<&ibv_destroy_qp>>;
using MemoryHandle = std::unique_ptr<ibv_mr, VerbsDelete<&ibv_dereg_mr>>;

}  // namespace mempool
