// SPDX-License-Identifier: Apache-2.0
// Owns the proof that the C header is C: compiled as C99, pedantic, every warning an error.
// memfd_create() and the seals are GNU's.
#define _GNU_SOURCE
#include "tests/agent/c_linkage.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mempool/mempool.h"

enum { kTensorBlocks = 4 };

const char* c_linkage_walk(struct mempool_pool* pool, const struct mempool_prompt* prompt) {
  mempool_layout layout = {.size = sizeof layout};
  mempool_block block, found;
  mempool_inserted inserted = {.size = sizeof inserted};
  unsigned char bytes[4096];
  void* piece;
  size_t count = 0, erased = 0;

  if (mempool_get_layout(pool, 0, &layout) != MEMPOOL_OK) return "layout";
  if (layout.block_bytes > sizeof bytes) return "block_bytes";
  if (mempool_alloc(pool, 1, MEMPOOL_HOST, &block) != MEMPOOL_OK) return "alloc";
  for (uint32_t layer = 0; layer < layout.layers; ++layer) {
    for (uint32_t part = 0; part < layout.parts; ++part) {
      if (mempool_piece(pool, &block, layer, part, 0, &piece) != MEMPOOL_OK) return "piece";
      memset(piece, (int)(10 * layer + part), layout.piece_bytes);
    }
  }
  if (mempool_insert(pool, prompt, &block, 1, &inserted) != MEMPOOL_OK) return "insert";
  if (inserted.admitted != 1 || inserted.duplicate_count != 0) return "inserted";
  if (mempool_match(pool, prompt, &found, 1, &count) != MEMPOOL_OK || count != 1) return "match";
  if (memcmp(&found, &block, sizeof block) != 0) return "address";
  if (mempool_read(pool, &found, bytes, layout.block_bytes) != MEMPOOL_OK) return "read";
  if (bytes[0] != 0 || bytes[layout.block_bytes - 1] != 10 * (layout.layers - 1) + layout.parts - 1)
    return "bytes";
  if (mempool_unpin(pool, &found, 1) != MEMPOOL_OK) return "unpin";
  if (mempool_erase(pool, prompt, &erased) != MEMPOOL_OK || erased != 1) return "erase";
  return mempool_free(pool, &block, 1) == MEMPOOL_OK ? NULL : "free";
}

// Adopt the tensors, have the pool copy one of their blocks, and take them back.
static const char* lend(struct mempool_pool* pool, const struct mempool_prompt* prompt,
                        const mempool_adopt_options* options) {
  const uint32_t number = kTensorBlocks - 1;
  mempool_block block, copy;
  mempool_inserted inserted = {.size = sizeof inserted, .duplicates = &copy};
  void* piece;

  if (mempool_adopt(pool, "kv", options) != MEMPOOL_OK) return "adopt";
  if (mempool_claim(pool, "kv", &number, 1, &block) != MEMPOOL_OK) return "claim";
  if (mempool_piece(pool, &block, 0, 0, 0, &piece) != MEMPOOL_OK) return "piece";
  *(unsigned char*)piece = 1;
  if (((unsigned char*)options->shards->data)[number * options->shards->block_stride] != 1)
    return "the engine's memory";
  if (mempool_insert(pool, prompt, &block, 1, &inserted) != MEMPOOL_OK) return "insert";
  if (inserted.duplicate_count != 1 || memcmp(&copy, &block, sizeof block) != 0)
    return "duplicates";
  if (mempool_free(pool, &block, 1) != MEMPOOL_OK) return "free";
  return mempool_withdraw(pool, "kv", 30000) == MEMPOOL_OK ? NULL : "withdraw";
}

const char* c_linkage_lend(struct mempool_pool* pool, const struct mempool_prompt* prompt) {
  mempool_layout layout = {.size = sizeof layout};
  mempool_tensors tensors;
  mempool_adopt_options options = {.size = sizeof options, .shards = &tensors, .shard_count = 1};
  const char* failed = "memory";

  if (mempool_get_layout(pool, 0, &layout) != MEMPOOL_OK) return "layout";
  memset(&tensors, 0, sizeof tensors);
  tensors.part_stride = layout.piece_bytes;
  tensors.layer_stride = layout.parts * tensors.part_stride;
  tensors.block_stride = layout.layers * tensors.layer_stride;
  options.blocks = kTensorBlocks;
  tensors.bytes = options.blocks * tensors.block_stride;
  tensors.descriptor = memfd_create("tensors", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (tensors.descriptor < 0) return failed;
  if (ftruncate(tensors.descriptor, (off_t)tensors.bytes) == 0 &&
      fcntl(tensors.descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0) {
    tensors.data =
        mmap(NULL, tensors.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, tensors.descriptor, 0);
    if (tensors.data != MAP_FAILED) {
      failed = lend(pool, prompt, &options);
      munmap(tensors.data, tensors.bytes);
    }
  }
  close(tensors.descriptor);
  return failed;
}
