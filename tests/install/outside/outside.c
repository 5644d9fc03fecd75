// SPDX-License-Identifier: Apache-2.0
// Owns a program in C as a user writes it: open an agent, publish one block, find it again, lend it
// memory.
#include <stdio.h>

#include "mempool/mempool.h"

static int fail(const char* step) {
  fprintf(stderr, "%s: %s\n", step, mempool_last_error());
  return 1;
}

int main(void) {
  const char* settings[] = {"pool.blocks=8",       "content.model=tiny",
                            "content.layers=2",    "content.kv_heads=2",
                            "content.head_size=8", "content.tokens_per_block=4"};
  const uint32_t tokens[4] = {1, 2, 3, 4};
  mempool_content_spec spec = {.size = sizeof spec, .model = "tiny"};
  mempool_prompt prompt = {.tokens = tokens, .token_count = 4};
  static char tensors[4 * 1024];  // of four blocks
  mempool_tensors shard = {.data = tensors, .bytes = sizeof tensors, .descriptor = -1};
  mempool_adopt_options lent = {.size = sizeof lent, .shards = &shard, .shard_count = 1};
  const uint32_t last = 3;
  mempool_block block, found;
  mempool_pool* pool;
  size_t count = 0;

  spec.layers = spec.kv_heads = 2;
  spec.head_size = 8;
  spec.tokens_per_block = 4;
  if (mempool_open(NULL, settings, sizeof settings / sizeof settings[0], &pool))
    return fail("open");
  if (mempool_name_content(pool, &spec, &prompt.content)) return fail("content");
  if (mempool_alloc(pool, 1, MEMPOOL_HOST, &block)) return fail("alloc");
  if (mempool_insert(pool, &prompt, &block, 1, NULL)) return fail("insert");
  if (mempool_match(pool, &prompt, &found, 1, &count) || count != 1) return fail("match");

  lent.blocks = 4;
  shard.part_stride = 4 * 2 * 8 * 2;  // tokens, heads, their size, bytes of an element
  shard.layer_stride = 2 * shard.part_stride;
  shard.block_stride = 2 * shard.layer_stride;
  if (mempool_adopt(pool, "kv", &lent)) return fail("adopt");
  if (mempool_claim(pool, "kv", &last, 1, &block)) return fail("claim");
  if (mempool_free(pool, &block, 1)) return fail("free");
  if (mempool_withdraw(pool, "kv", 10000)) return fail("withdraw");
  printf("mempool %s: matched %zu block from C\n", mempool_version(), count);
  mempool_close(pool);
  return 0;
}
