// SPDX-License-Identifier: Apache-2.0
// Owns what the test calls of a translation unit in C.
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

struct mempool_pool;
struct mempool_prompt;

/// Fill, publish, find and read a prompt of one block, as a program in C does. Gives null, or the
/// step that failed.
const char* c_linkage_walk(struct mempool_pool* pool, const struct mempool_prompt* prompt);
/// Lend the pool a memfd and insert one block of it under a prompt of one. Gives as above.
const char* c_linkage_lend(struct mempool_pool* pool, const struct mempool_prompt* prompt);

#ifdef __cplusplus
}
#endif
