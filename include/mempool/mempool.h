// SPDX-License-Identifier: Apache-2.0
// Owns the C API: everything an engine asks of its agent, inside its process or beside it.
//
// Calls give MEMPOOL_OK or why not, and set what they give back only then. Every call may come
// from any thread, at the same time as others; what frees a handle comes last, in any order of
// handles: transfers of a closed pool have ended, arrivals and fences are plain memory. Freeing
// null is nothing. What goes in is borrowed for the length of the call. A struct that may grow
// begins with `size`, which the caller sets to sizeof of it; of all else, zero is the default.
// Descriptors are the library's: poll them, close none. A forked child must not use what its parent
// opened.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)  // what the shared library shows

// ---- how calls end ---------------------------------------------------------------------------

typedef enum mempool_status {
  MEMPOOL_OK = 0,
  MEMPOOL_INVALID_ARGUMENT,    // the caller's words are wrong; trying again will not help
  MEMPOOL_NOT_FOUND,           // no such prompt, peer, transfer or block
  MEMPOOL_ALREADY_EXISTS,      // the thing is there already
  MEMPOOL_RESOURCE_EXHAUSTED,  // no room now; mempool_retry_after_ms() says when to ask again
  MEMPOOL_UNAVAILABLE,         // the peer or agent cannot be reached; a retry may work
  MEMPOOL_DEADLINE_EXCEEDED,   // the call's time is over
  MEMPOOL_UNSUPPORTED,         // this build, transport or layout cannot do it
  MEMPOOL_CANCELLED,           // the caller or the peer took it back
  MEMPOOL_CORRUPTION,          // the bytes are not those that were sealed
  MEMPOOL_STALE,               // the address names a block that has been freed
  MEMPOOL_PERMISSION_DENIED,   // the peer could not prove the shared token
  MEMPOOL_INTERNAL             // a defect in mempool
} mempool_status;
/// Give a code's name, as "STALE".
const char* mempool_status_name(mempool_status status);
/// Give what the last failed call of this thread said of the thing and the mend, until the next
/// one fails; "" before any.
const char* mempool_last_error(void);
/// Give the milliseconds after which that call may be tried again; 0 without a hint.
uint32_t mempool_retry_after_ms(void);
/// Give the library's version, as "0.1.0".
const char* mempool_version(void);

// ---- the pool --------------------------------------------------------------------------------

typedef struct mempool_pool mempool_pool;
/// Start an agent in this process, by settings as `mempool agent` takes them: a TOML file (may be
/// null), then MEMPOOL_SECTION_KEY variables, then "section.key=value"; log.* are the process's.
mempool_status mempool_open(const char* file, const char* const* settings, size_t settings_count,
                            mempool_pool** pool);
/// Attach to an agent of this host, as a process of the same user, and map its pool. `path` is its
/// setting agent.engine_socket; this process is `rank` of the engine's `ranks`: it fills the shard
/// of that number, and rank 0 receives arrivals. Where the agent goes, match and erase find nothing
/// and other calls give UNAVAILABLE.
mempool_status mempool_attach(const char* path, uint32_t rank, uint32_t ranks, uint32_t timeout_ms,
                              mempool_pool** pool);
/// Stop the agent, or detach: open transfers end, what an attached engine holds is given back.
void mempool_close(mempool_pool* pool);
/// Add or change a peer by name; "host:port" is what its agent listens on.
mempool_status mempool_add_peer(mempool_pool* pool, const char* name, const char* address);
// For embedded agents only:
/// Give the "host:port" that peers reach it by, the pool's; null of one that is attached.
const char* mempool_listen_address(const mempool_pool* pool);
/// Refuse transfers from now on and wait for the open ones.
mempool_status mempool_drain(mempool_pool* pool, uint64_t timeout_ms);
/// Give metrics in Prometheus' text form, to be freed by mempool_free_text().
mempool_status mempool_metrics(mempool_pool* pool, char** text);
void mempool_free_text(char* text);

// ---- contents --------------------------------------------------------------------------------

typedef enum mempool_element {
  MEMPOOL_FLOAT16 = 0,
  MEMPOOL_BFLOAT16,
  MEMPOOL_FLOAT32,
  MEMPOOL_FLOAT8_E4M3,
  MEMPOOL_FLOAT8_E5M2,
  MEMPOOL_INT8
} mempool_element;

/// Everything that decides what the KV of a token is. Null strings are empty ones.
typedef struct mempool_content_spec {
  size_t size;
  const char* model;
  const char* revision;
  const char* adapter;
  const char* quantization;
  const char* position_encoding;
  const char* tenant_salt;
  const void* root;  // whatever else the KV depends on (image hashes, for one)
  size_t root_bytes;
  uint32_t element;  // mempool_element
  uint32_t layers;
  uint32_t kv_heads;          // 1 when mla_rank is given
  uint32_t head_size;         // unused when mla_rank is given
  uint32_t mla_rank;          // elements of MLA's one vector; 0: separate K and V
  uint32_t tokens_per_block;  // 0: 16
} mempool_content_spec;

/// The name of a content, to be kept and copied.
typedef struct mempool_content {
  uint64_t id[2], model[2];
  uint64_t tenant;  // of tenant_salt; 0 without one
} mempool_content;
typedef struct mempool_prompt {
  mempool_content content;
  const uint32_t* tokens;
  size_t token_count;
} mempool_prompt;

/// Name a content; its shape must be the pool's.
mempool_status mempool_name_content(mempool_pool* pool, const mempool_content_spec* spec,
                                    mempool_content* content);

// ---- blocks ----------------------------------------------------------------------------------

/// The address of a block, to be kept and copied: one that was freed meanwhile is STALE.
typedef struct mempool_block {
  uint64_t incarnation;
  uint32_t generation;
  uint32_t place;
} mempool_block;
typedef enum mempool_medium { MEMPOOL_HOST = 0, MEMPOOL_DEVICE } mempool_medium;
typedef enum mempool_order { MEMPOOL_TOKEN_HEAD = 0, MEMPOOL_HEAD_TOKEN } mempool_order;
/// Strides: piece (layer, part) of block i of the first segment lies i * block_stride + layer *
/// layer_stride + part * part_stride behind that of block 0; a token's vector of one head lies
/// (token * heads + head) * vector_bytes into it, by HEAD_TOKEN (head * tokens + token) times.
typedef struct mempool_layout {
  size_t size;
  uint32_t layers, parts, heads, tokens;  // parts: 2 (K and V), or 1 (MLA)
  uint32_t first_layer, first_head;
  uint32_t order, shards;         // mempool_order; of the pool, its tensor-parallel ranks
  uint32_t replicated, reserved;  // 1: other shards hold the same heads
  uint64_t vector_bytes, piece_bytes, block_bytes;
  uint64_t block_stride, layer_stride, part_stride;
} mempool_layout;

/// Give the shape and strides of the blocks in a shard. Shards differ in their heads only.
mempool_status mempool_get_layout(mempool_pool* pool, uint32_t shard, mempool_layout* layout);
/// Take `count` blocks, evicting if need be; each is pinned for the caller, who fills it.
mempool_status mempool_alloc(mempool_pool* pool, size_t count, uint32_t medium,
                             mempool_block* blocks);
/// Give blocks back, all or none: those that only the caller pins and no index holds.
mempool_status mempool_free(mempool_pool* pool, const mempool_block* blocks, size_t count);
mempool_status mempool_pin(mempool_pool* pool, const mempool_block* blocks, size_t count);
/// Let go; the last unpin of a block that no index holds frees it.
mempool_status mempool_unpin(mempool_pool* pool, const mempool_block* blocks, size_t count);
/// Give where a shard's piece of one layer and part lies, as long as the caller pins the block.
mempool_status mempool_piece(mempool_pool* pool, const mempool_block* block, uint32_t layer,
                             uint32_t part, uint32_t shard, void** piece);
/// Copy a sealed block out, shard by shard in (layer, part) order: shards * block_bytes.
mempool_status mempool_read(mempool_pool* pool, const mempool_block* block, void* out,
                            size_t bytes);

// ---- index -----------------------------------------------------------------------------------

/// What an insert did; the lists, each with room for as many blocks as went in, may be null.
typedef struct mempool_inserted {
  size_t size;
  mempool_block* serving;     // per admitted block: the address that answers for its tokens
  mempool_block* duplicates;  // of the caller's blocks, those already published by another
  size_t admitted;            // leading blocks that are matchable now
  size_t duplicate_count;
} mempool_inserted;
typedef struct mempool_key {
  const void* bytes;  // 1 to 256
  size_t length;
} mempool_key;

/// Seal and publish one block for each whole token block of the prompt; `inserted` may be null.
mempool_status mempool_insert(mempool_pool* pool, const mempool_prompt* prompt,
                              const mempool_block* blocks, size_t count,
                              mempool_inserted* inserted);
/// Find and pin the longest published prefix: `count` blocks, at most one a whole token block of
/// the prompt. Where `capacity` is less: INVALID_ARGUMENT, nothing pinned, and `count` needed.
mempool_status mempool_match(mempool_pool* pool, const mempool_prompt* prompt,
                             mempool_block* blocks, size_t capacity, size_t* count);
/// Remove the prompt's last whole block and all that continues it; `erased` may be null.
mempool_status mempool_erase(mempool_pool* pool, const mempool_prompt* prompt, size_t* erased);
/// For engines that know only keys: seal and publish blocks[i] under keys[i], all or none.
mempool_status mempool_insert_keys(mempool_pool* pool, const mempool_key* keys,
                                   const mempool_block* blocks, size_t count,
                                   mempool_inserted* inserted);
/// Find and pin the blocks of the leading keys that are held, `found` of `count`.
mempool_status mempool_match_keys(mempool_pool* pool, const mempool_key* keys, size_t count,
                                  mempool_block* blocks, size_t* found);
/// Remove those keys that are held; `erased` may be null.
mempool_status mempool_erase_keys(mempool_pool* pool, const mempool_key* keys, size_t count,
                                  size_t* erased);

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
} mempool_report;

/// Move the KV of the prompt to `target` and make it matchable there. `blocks` cover all tokens,
/// the last one maybe partly; they stay pinned until nothing reads them.
mempool_status mempool_transfer_with_insert(mempool_pool* pool, const char* target,
                                            const mempool_prompt* prompt,
                                            const mempool_block* blocks, size_t count,
                                            const mempool_transfer_options* options,
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
/// Of a transfer that ended: the addresses at the target, of a fetch here, in token order; at most
/// one a block of the prompt. A `capacity` that is less: as mempool_match().
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
  const mempool_block* blocks;  // in token order, each pinned for the caller until mempool_unpin()
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
