// SPDX-License-Identifier: Apache-2.0
// Owns the C functions of transfers, fences and arrivals, and their handles.
#include <bit>
#include <utility>

#include <fmt/format.h>

#include "agent/c_api.h"
#include "mempool/fence.h"

using namespace mempool;
using namespace mempool::c_api;

struct mempool_fence {
  Fence fence = Fence::pending();
};

struct mempool_transfer {
  Transfer transfer{nullptr};  // set before the caller sees the handle
};

struct mempool_arrival {
  Arrival arrival;
  std::vector<mempool_block> blocks;
};

namespace {

Result<TransferOptions> to_options(const mempool_transfer_options* given) {
  MEMPOOL_ASSIGN_OR_RETURN(const mempool_transfer_options from, take(given, "options"));
  MEMPOOL_RETURN_IF_ERROR(need_list(from.user_data, from.user_data_bytes, "options.user_data"));
  if (from.mode > MEMPOOL_BY_LAYER) {
    return invalid_argument(fmt::format("options.mode: there is no mode {}", from.mode));
  }
  TransferOptions options;
  MEMPOOL_ASSIGN_OR_RETURN(options.medium, to_medium(from.medium));
  options.mode = from.mode == MEMPOOL_BY_LAYER ? TransferMode::kByLayer : TransferMode::kByRequest;
  options.deadline = bounded(from.deadline_ms);
  options.request_id = from.request_id;
  const auto* const user_data = static_cast<const std::byte*>(from.user_data);
  options.user_data.assign(user_data, user_data + from.user_data_bytes);
  options.trace = text(from.trace);
  if (from.ready != nullptr) options.ready = from.ready->fence;
  if (from.on_done != nullptr) {
    options.on_done = [on_done = from.on_done, context = from.context](const Status& how) {
      on_done(context, settle(how));
    };
  }
  return options;
}

/// Let `start` begin a transfer, and hand out its handle.
template <typename Start>
Status start_transfer(const char* peer, const mempool_transfer_options* options,
                      mempool_transfer** transfer, const Start& start) {
  MEMPOOL_RETURN_IF_ERROR(need(peer, "the peer's name"));
  MEMPOOL_RETURN_IF_ERROR(need(transfer, "the place for the transfer"));
  MEMPOOL_ASSIGN_OR_RETURN(const TransferOptions how, to_options(options));
  auto handle = std::make_unique<mempool_transfer>();
  MEMPOOL_ASSIGN_OR_RETURN(handle->transfer, start(std::string(peer), how));
  *transfer = handle.release();
  return {};
}

Result<TransferReport> report_of(const mempool_transfer* transfer) {
  MEMPOOL_RETURN_IF_ERROR(need(transfer, "transfer"));
  if (transfer->transfer.done()) return transfer->transfer.report();
  return invalid_argument("the transfer has not ended; mempool_wait() for it first");
}

uint64_t to_nanoseconds(double microseconds) {
  return static_cast<uint64_t>(std::max(microseconds, 0.0) * 1000);
}

}  // namespace

// ---- fences ----------------------------------------------------------------------------------

mempool_status mempool_make_fence(mempool_fence** fence) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(fence, "the place for the fence"));
    *fence = new mempool_fence();
    return {};
  });
}

mempool_status mempool_signal_fence(mempool_fence* fence) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(fence, "fence"));
    fence->fence.signal();
    return {};
  });
}

void mempool_free_fence(mempool_fence* fence) {
  delete fence;
}

// ---- transfers -------------------------------------------------------------------------------

mempool_status mempool_transfer_with_insert(mempool_pool* pool, const char* target,
                                            const mempool_prompt* prompt,
                                            const mempool_block* blocks, size_t count,
                                            const mempool_transfer_options* options,
                                            mempool_transfer** transfer) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
    MEMPOOL_ASSIGN_OR_RETURN(const std::vector<BlockAddress> list, to_blocks(blocks, count));
    MEMPOOL_ASSIGN_OR_RETURN(const Prompt what, to_prompt(prompt));
    return start_transfer(target, options, transfer, [&](const auto& peer, const auto& how) {
      return pool->pool->transfer_with_insert(peer, what, list, how);
    });
  });
}

mempool_status mempool_transfer_blocks(mempool_pool* pool, const char* target,
                                       const mempool_block* blocks, const mempool_block* places,
                                       size_t count, const mempool_transfer_options* options,
                                       mempool_transfer** transfer) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
    MEMPOOL_ASSIGN_OR_RETURN(const std::vector<BlockAddress> from, to_blocks(blocks, count));
    MEMPOOL_ASSIGN_OR_RETURN(const std::vector<BlockAddress> to, to_blocks(places, count));
    return start_transfer(target, options, transfer, [&](const auto& peer, const auto& how) {
      return pool->pool->transfer(peer, from, to, how);
    });
  });
}

mempool_status mempool_fetch(mempool_pool* pool, const char* source, const mempool_prompt* prompt,
                             const mempool_transfer_options* options, mempool_transfer** transfer) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
    MEMPOOL_ASSIGN_OR_RETURN(const Prompt what, to_prompt(prompt));
    return start_transfer(source, options, transfer, [&](const auto& peer, const auto& how) {
      return pool->pool->fetch(peer, what, how);
    });
  });
}

mempool_status mempool_send_layers(mempool_transfer* transfer, uint32_t first, uint32_t count,
                                   const mempool_fence* ready) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(transfer, "transfer"));
    return transfer->transfer.send_layers(first, count, ready == nullptr ? Fence() : ready->fence);
  });
}

mempool_status mempool_commit(mempool_transfer* transfer) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(transfer, "transfer"));
    return transfer->transfer.commit();
  });
}

mempool_status mempool_wait(mempool_transfer* transfer) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(transfer, "transfer"));
    return transfer->transfer.wait();
  });
}

int mempool_done(mempool_transfer* transfer) {
  return transfer == nullptr || transfer->transfer.done() ? 1 : 0;
}

mempool_status mempool_transfer_descriptor(mempool_transfer* transfer, int* descriptor) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(transfer, "transfer"));
    MEMPOOL_RETURN_IF_ERROR(need(descriptor, "descriptor"));
    MEMPOOL_ASSIGN_OR_RETURN(*descriptor, transfer->transfer.event_descriptor());
    return {};
  });
}

mempool_status mempool_cancel(mempool_transfer* transfer) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(transfer, "transfer"));
    transfer->transfer.cancel();
    return {};
  });
}

mempool_status mempool_get_report(mempool_transfer* transfer, mempool_report* report) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(report, "report"));
    MEMPOOL_RETURN_IF_ERROR(check_size(report->size, "report"));
    MEMPOOL_ASSIGN_OR_RETURN(const TransferReport from, report_of(transfer));
    mempool_report to{};
    from.transport.copy(to.transport, sizeof to.transport - 1);
    from.route.copy(to.route, sizeof to.route - 1);
    to.doorbells = from.doorbells;
    to.completions = from.completions;
    to.bytes = from.bytes;
    to.bytes_saved = from.bytes_saved;
    to.tokens = from.tokens;
    to.tokens_matched = from.tokens_matched;
    to.paper_calls = from.paper_calls;
    to.run_pair_calls = from.run_pair_calls;
    to.network_calls = from.network_calls;
    to.system_calls = from.system_calls.value_or(UINT64_MAX);
    to.prepare_ns = to_nanoseconds(from.prepare_us);
    to.post_ns = to_nanoseconds(from.post_us);
    to.complete_ns = to_nanoseconds(from.complete_us);
    put(to, report);
    return {};
  });
}

mempool_status mempool_serving(mempool_transfer* transfer, mempool_block* blocks, size_t capacity,
                               size_t* count) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need_list(blocks, capacity, "blocks"));
    MEMPOOL_RETURN_IF_ERROR(need(count, "count"));
    MEMPOOL_ASSIGN_OR_RETURN(const TransferReport report, report_of(transfer));
    return put_blocks(report.serving, blocks, capacity, count);
  });
}

void mempool_free_transfer(mempool_transfer* transfer) {
  delete transfer;
}

// ---- arrivals --------------------------------------------------------------------------------

mempool_status mempool_arrival_descriptor(mempool_pool* pool, int* descriptor) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
    MEMPOOL_RETURN_IF_ERROR(need(descriptor, "descriptor"));
    MEMPOOL_ASSIGN_OR_RETURN(*descriptor, pool->pool->arrival_descriptor());
    return {};
  });
}

mempool_status mempool_receive(mempool_pool* pool, uint64_t timeout_ms, mempool_arrival** arrival) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
    MEMPOOL_RETURN_IF_ERROR(need(arrival, "the place for the arrival"));
    auto handle = std::make_unique<mempool_arrival>();
    MEMPOOL_ASSIGN_OR_RETURN(handle->arrival, pool->pool->receive(bounded(timeout_ms)));
    handle->blocks.resize(handle->arrival.blocks.size());
    put_blocks(handle->arrival.blocks, handle->blocks.data());
    *arrival = handle.release();
    return {};
  });
}

mempool_status mempool_view_arrival(const mempool_arrival* arrival, mempool_arrival_view* view) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(arrival, "arrival"));
    MEMPOOL_RETURN_IF_ERROR(need(view, "view"));
    MEMPOOL_RETURN_IF_ERROR(check_size(view->size, "view"));
    const Arrival& from = arrival->arrival;
    mempool_arrival_view to{};
    to.source = from.source.c_str();
    to.transfer = from.transfer;
    to.request_id = from.request_id;
    to.user_data = from.user_data.data();
    to.user_data_bytes = from.user_data.size();
    to.prompt = {std::bit_cast<mempool_content>(from.content), from.tokens.data(),
                 from.tokens.size()};
    to.blocks = arrival->blocks.data();
    to.block_count = arrival->blocks.size();
    to.last_block_tokens = from.last_block_tokens;
    to.tokens_matched = from.tokens_matched;
    put(to, view);
    return {};
  });
}

void mempool_free_arrival(mempool_arrival* arrival) {
  delete arrival;
}
