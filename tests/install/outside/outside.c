// SPDX-License-Identifier: Apache-2.0
// Owns a program in C as a user writes it: open an agent, publish one block, find it again.
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
  printf("mempool %s: matched %zu block from C\n", mempool_version(), count);
  mempool_close(pool);
  return 0;
}
