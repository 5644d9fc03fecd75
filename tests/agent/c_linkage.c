// SPDX-License-Identifier: Apache-2.0
// Owns the proof that the C header is C: compiled as C99, pedantic, every warning an error.
#include "tests/agent/c_linkage.h"

#include <string.h>

#include "mempool/mempool.h"

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
