// SPDX-License-Identifier: Apache-2.0
// Owns the part of the C API that moves KV between agents: transfers, fences, arrivals. Its rules
// and its other words are those of mempool.h.
#pragma once

#include "mempool/mempool.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)  // what the shared library shows

// ---- transfers -------------------------------------------------------------------------------

/// A moment in an engine's work from which on memory may be read, reached by its signal.
typedef struct mempool_fence mempool_fence;
mempool_status mempool_make_fence(mempool_fence** fence);
mempool_status mempool_signal_fence(mempool_fence* fence);
/// Transfers that wait for it keep the moment; one that was not signalled is never reached.
void mempool_free_fence(mempool_fence* fence);

typedef struct mempool_transfer mempool_transfer;
/// The KV of all layers is there, or will be when `ready` is reached; or it is still being made:
/// mempool_send_layers() hands over layers, mempool_commit() ends.
typedef enum mempool_mode { MEMPOOL_BY_REQUEST = 0, MEMPOOL_BY_LAYER } mempool_mode;
/// Null where a call takes options: all defaults.
typedef struct mempool_transfer_options {
  size_t size;
  uint32_t mode;          // mempool_mode
  uint32_t medium;        // mempool_medium, at the target
  uint64_t deadline_ms;   // 0: timeouts.default_deadline_ms of the agent
  uint64_t request_id;    // carried to the arrival, never interpreted
  const void* user_data;  // likewise; at most 64 KiB
  size_t user_data_bytes;
  const char* trace;           // W3C traceparent, carried to the target's log
  const mempool_fence* ready;  // by request: when the blocks may be read; null: now
  // Called once when it ended, maybe before the call that began it returns; it may not block or
  // close the pool. mempool_last_error() says there how it failed.
  void (*on_done)(void* context, mempool_status how);
  void* context;
} mempool_transfer_options;
typedef struct mempool_report {
  size_t size;
  char transport[16];    // "tcp"; empty when nothing had to move
  uint64_t bytes;        // moved
  uint64_t bytes_saved;  // of blocks the target had already
  uint64_t tokens;
  uint64_t tokens_matched;  // by the target before anything moved; of a fetch, here
  uint64_t paper_calls;     // pieces, unmerged
  uint64_t run_pair_calls;  // ranges contiguous on both sides, merged
  uint64_t network_calls;   // operations posted to the transport
  uint64_t system_calls;    // UINT64_MAX: not counted
  // From the call to the target's answer, to the last call posted, to the acknowledgement.
  uint64_t prepare_ns, post_ns, complete_ns;
  char route[128];       // the devices it went over, cut to fit; empty where the transport has none
  uint64_t doorbells;    // lists of work requests handed to a NIC
  uint64_t completions;  // entries taken from a NIC's completion queues
} mempool_report;

/// Move the KV of the prompt to `target` and make it matchable there. `blocks` cover all tokens,
/// the last one maybe partly; they stay pinned until nothing reads them.
mempool_status mempool_transfer_with_insert(mempool_pool* pool, const char* target,
                                            const mempool_prompt* prompt,
                                            const mempool_block* blocks, size_t count,
                                            const mempool_transfer_options* options,
                                            mempool_transfer** transfer);
/// Move blocks[i] into places[i] at `target`, whole and in no index: places that it holds for the
/// caller, or that its engine is filling and has told of. They arrive there without a prompt. Ended
/// badly, held places are free again (refused with mempool_retry_after_ms(), they stay held); an
/// engine's then wait for its mempool_unpin().
mempool_status mempool_transfer_blocks(mempool_pool* pool, const char* target,
                                       const mempool_block* blocks, const mempool_block* places,
                                       size_t count, const mempool_transfer_options* options,
                                       mempool_transfer** transfer);
/// Pull the leading whole blocks that `source` holds; mempool_serving() has them, each pinned.
mempool_status mempool_fetch(mempool_pool* pool, const char* source, const mempool_prompt* prompt,
                             const mempool_transfer_options* options, mempool_transfer** transfer);
/// By layer: move these layers of all blocks once `ready` (null: now) is reached.
mempool_status mempool_send_layers(mempool_transfer* transfer, uint32_t first, uint32_t count,
                                   const mempool_fence* ready);
/// By layer: all layers have been handed over; publish at the target when all are there.
mempool_status mempool_commit(mempool_transfer* transfer);
/// Wait until it ended, by its deadline at the latest; gives how.
mempool_status mempool_wait(mempool_transfer* transfer);
/// Tell whether it ended: 1 or 0.
int mempool_done(mempool_transfer* transfer);
/// Give a descriptor for poll(), readable once it ended; the transfer's.
mempool_status mempool_transfer_descriptor(mempool_transfer* transfer, int* descriptor);
/// Take it back; mempool_wait() then gives CANCELLED, or OK when the commit was quicker.
mempool_status mempool_cancel(mempool_transfer* transfer);
/// Of a transfer that ended: what it did.
mempool_status mempool_get_report(mempool_transfer* transfer, mempool_report* report);
/// Of a transfer that ended: the addresses at the target, of a fetch here, in token order or that
/// of the places; at most one a block of the prompt or list. A `capacity` that is less: as
/// mempool_match().
mempool_status mempool_serving(mempool_transfer* transfer, mempool_block* blocks, size_t capacity,
                               size_t* count);
/// Give the handle back; the transfer goes on.
void mempool_free_transfer(mempool_transfer* transfer);

// ---- arrivals --------------------------------------------------------------------------------

typedef struct mempool_arrival mempool_arrival;
/// KV that arrived; all pointers are the arrival's.
typedef struct mempool_arrival_view {
  size_t size;
  const char* source;  // the sender's instance name
  uint64_t transfer;   // the sender's number for it
  uint64_t request_id;
  const void* user_data;
  size_t user_data_bytes;
  mempool_prompt prompt;
  // In token order, or the places; each pinned for the caller until mempool_unpin().
  const mempool_block* blocks;
  size_t block_count;
  uint64_t last_block_tokens;  // valid tokens of the last block
  uint64_t tokens_matched;     // that were here before
} mempool_arrival_view;

/// Give a descriptor for poll(), readable while an arrival waits or the agent has gone; the pool's.
mempool_status mempool_arrival_descriptor(mempool_pool* pool, int* descriptor);
/// Wait for the next arrival.
mempool_status mempool_receive(mempool_pool* pool, uint64_t timeout_ms, mempool_arrival** arrival);
mempool_status mempool_view_arrival(const mempool_arrival* arrival, mempool_arrival_view* view);
/// Free the words, not the blocks.
void mempool_free_arrival(mempool_arrival* arrival);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
