// SPDX-License-Identifier: Apache-2.0
// Owns the C API: everything an engine asks of its agent, inside its process or beside it. What
// moves between agents is in mempool_transfer.h, which comes along.
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
/// Have the peer `instance` hold `count` blocks for the caller, as places for
/// mempool_transfer_blocks(); waits until it answers. A `deadline_ms` of 0 is as in
/// mempool_transfer_options.
mempool_status mempool_alloc_at(mempool_pool* pool, size_t count, uint32_t medium,
                                const char* instance, uint64_t deadline_ms, mempool_block* blocks);
/// Give blocks back, all or none: those that only the caller pins and no index holds, or those that
/// one peer holds for the caller.
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

// ---- memory of the engine's own --------------------------------------------------------------

/// One shard of an engine's tensors: the piece of (block, layer, part) starts at block *
/// block_stride + layer * layer_stride + part * part_stride bytes behind `data`, in the pool's
/// order of tokens and heads.
typedef struct mempool_tensors {
  void* data;
  uint64_t bytes;
  uint64_t block_stride, layer_stride, part_stride;
  // Memfd, sealed against growing and shrinking, whose first byte `data` is; borrowed for the call.
  // -1: anonymous memory, which only an embedded agent takes, and which shm cannot send.
  int descriptor;
} mempool_tensors;
typedef struct mempool_adopt_options {
  size_t size;
  const mempool_tensors* shards;  // all of them, in rank order; of an attached rank, its own
  size_t shard_count;
  uint32_t blocks;  // numbered from 0 in mempool_claim()
  // 1: inserting publishes blocks where they lie, until they are claimed anew or withdrawn;
  // 0: it copies them into the pool's, and they come back among the duplicates.
  uint32_t insert_in_place;
} mempool_adopt_options;

/// Take an engine's tensors in, under a name, as blocks of which the engine alone says what lies in
/// them; they stay mapped where they are until mempool_withdraw() was OK or the pool is closed.
mempool_status mempool_adopt(mempool_pool* pool, const char* name,
                             const mempool_adopt_options* options);
/// Give the addresses of adopted blocks that the caller fills from now on, each pinned as by
/// mempool_alloc(). What is published in place there leaves the index, with what continues it.
mempool_status mempool_claim(mempool_pool* pool, const char* name, const uint32_t* numbers,
                             size_t count, mempool_block* blocks);
/// Let go of adopted memory, from all ranks, when nobody reads or writes any block of it;
/// DEADLINE_EXCEEDED says what is in use, and the memory is still adopted.
mempool_status mempool_withdraw(mempool_pool* pool, const char* name, uint64_t timeout_ms);

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

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#include "mempool/mempool_transfer.h"
