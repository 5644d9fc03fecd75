// SPDX-License-Identifier: Apache-2.0
// Owns examples/paged_engine.cc in C, step by step the same: what either sends, the other receives.
//
//   paged_engine_c prefill SOCKET PEER HOST:PORT
//   paged_engine_c decode SOCKET
#define _GNU_SOURCE  // for memfd_create() and its seals
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mempool/mempool.h"

enum {
  kRank = 0,            // this process is the engine's only one
  kPromptTokens = 100,  // the last block is not full
  kDecodedTokens = 30,
  kTokensMax = kPromptTokens + kDecodedTokens,
  kBlockTokens = 16,
  kBlocksMax = (kTokensMax + kBlockTokens - 1) / kBlockTokens,
  kPages = 16,
  kPatienceMs = 30000
};
static const char kTensors[] = "kv";  // the name under which they are adopted

// The engine's own paged KV, [layer][part][page][token][head] as vLLM has it, in a memfd, for
// agents to map.
typedef struct engine {
  mempool_pool* pool;
  mempool_layout layout;
  mempool_tensors tensors;
  uint32_t free_pages[kPages];  // that no sequence has
  size_t free_count;
} engine;

// One sequence: its tokens, what stands for the model's state after each, and its blocks: those of
// the pool, which were matched or came, then pages of the engine's own.
typedef struct sequence {
  engine* engine;
  mempool_content content;
  uint32_t tokens[kTokensMax];
  uint64_t states[kTokensMax];
  size_t token_count;
  mempool_block blocks[kBlocksMax];  // all of them
  size_t block_count;
  uint32_t pages[kBlocksMax];  // the numbers of the last ones
  size_t page_count;
} sequence;

static void fail(const char* step, const char* why) {
  fprintf(stderr, "%s: %s\n", step, why);
  exit(1);  // the process gives back everything that it held
}

static void must(const char* step, mempool_status status) {
  if (status != MEMPOOL_OK) fail(step, mempool_last_error());
}

static void wait_until_readable(int descriptor) {
  struct pollfd waits = {descriptor, POLLIN, 0};
  if (poll(&waits, 1, kPatienceMs) != 1) fail("poll", "nothing happened");
}

static void start(engine* e, const char* path) {
  mempool_adopt_options options = {.size = sizeof options, .shards = &e->tensors, .shard_count = 1};
  mempool_tensors* t = &e->tensors;

  memset(e, 0, sizeof *e);
  must("attach", mempool_attach(path, kRank, 1, 0, &e->pool));
  e->layout.size = sizeof e->layout;
  must("layout", mempool_get_layout(e->pool, kRank, &e->layout));
  t->bytes = kPages * e->layout.block_bytes;
  t->block_stride = e->layout.piece_bytes;
  t->part_stride = kPages * t->block_stride;
  t->layer_stride = e->layout.parts * t->part_stride;
  t->data = MAP_FAILED;
  t->descriptor = memfd_create(kTensors, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (ftruncate(t->descriptor, (off_t)t->bytes) == 0 &&
      fcntl(t->descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0) {
    t->data = mmap(NULL, t->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, t->descriptor, 0);
  }
  if (t->data == MAP_FAILED) fail("tensors", "no memfd of this size");
  options.blocks = kPages;
  must("adopt", mempool_adopt(e->pool, kTensors, &options));
  while (e->free_count < kPages) {
    e->free_pages[e->free_count] = (uint32_t)e->free_count;
    ++e->free_count;
  }
}

static void stop(engine* e) {
  must("withdraw", mempool_withdraw(e->pool, kTensors, kPatienceMs));
  munmap(e->tensors.data, e->tensors.bytes);
  close(e->tensors.descriptor);
  mempool_close(e->pool);
}

static void begin(sequence* s, engine* e) {
  mempool_content_spec model = {.size = sizeof model, .model = "paged-engine"};
  model.layers = 4;
  model.kv_heads = 2;
  model.head_size = 64;
  model.tokens_per_block = kBlockTokens;
  memset(s, 0, sizeof *s);
  s->engine = e;
  must("content", mempool_name_content(e->pool, &model, &s->content));
}

static void add_page(sequence* s) {
  engine* e = s->engine;
  uint32_t* page = &s->pages[s->page_count++];
  if (e->free_count == 0) fail("add_page", "every page has its sequence");
  *page = e->free_pages[--e->free_count];
  must("claim", mempool_claim(e->pool, kTensors, page, 1, &s->blocks[s->block_count++]));
}

static void let_go(sequence* s) {
  engine* e = s->engine;
  must("unpin", mempool_unpin(e->pool, s->blocks, s->block_count));
  while (s->page_count > 0) e->free_pages[e->free_count++] = s->pages[--s->page_count];
  s->block_count = 0;
}

static mempool_prompt prompt_of(const sequence* s) {
  mempool_prompt prompt = {s->content, s->tokens, s->token_count};
  return prompt;
}

static void append(sequence* s, uint32_t token) {
  const uint64_t before = s->token_count == 0 ? 1 : s->states[s->token_count - 1];
  const uint64_t mixed = (before ^ token) * 0x9e3779b97f4a7c15u;
  s->tokens[s->token_count] = token;
  s->states[s->token_count++] = mixed ^ (mixed >> 29);
}

static unsigned char kv_byte(uint64_t state, uint32_t layer, uint32_t part, uint32_t head,
                             size_t at) {
  return (unsigned char)((state >> (at % 8 * 8)) + 31 * layer + 17 * part + 7 * head + at);
}

static unsigned char* piece_at(const sequence* s, size_t position, uint32_t layer, uint32_t part) {
  const mempool_tensors* t = &s->engine->tensors;
  const size_t first_page = s->block_count - s->page_count;
  void* piece;
  if (position >= first_page) {
    return (unsigned char*)t->data + s->pages[position - first_page] * t->block_stride +
           layer * t->layer_stride + part * t->part_stride;
  }
  must("piece", mempool_piece(s->engine->pool, &s->blocks[position], layer, part, kRank, &piece));
  return piece;
}

static unsigned char* vector_at(const sequence* s, size_t token, uint32_t layer, uint32_t part,
                                uint32_t head) {
  const mempool_layout* layout = &s->engine->layout;
  const size_t place = token % layout->tokens;
  const size_t row = layout->order == MEMPOOL_TOKEN_HEAD ? place * layout->heads + head
                                                         : head * layout->tokens + place;
  return piece_at(s, token / layout->tokens, layer, part) + row * layout->vector_bytes;
}

// Compute one layer of the tokens from `first` on.
static void compute(sequence* s, uint32_t layer, size_t first) {
  for (size_t token = first; token < s->token_count; ++token) {
    for (uint32_t part = 0; part < s->engine->layout.parts; ++part) {
      for (uint32_t head = 0; head < s->engine->layout.heads; ++head) {
        unsigned char* vector = vector_at(s, token, layer, part, head);
        for (size_t at = 0; at < s->engine->layout.vector_bytes; ++at) {
          vector[at] = kv_byte(s->states[token], layer, part, head, at);
        }
      }
    }
  }
}

// Compare every byte of one token's KV with what compute() makes; gives how many there are.
static size_t check_token(const sequence* s, size_t token) {
  size_t bytes = 0;
  for (uint32_t layer = 0; layer < s->engine->layout.layers; ++layer) {
    for (uint32_t part = 0; part < s->engine->layout.parts; ++part) {
      for (uint32_t head = 0; head < s->engine->layout.heads; ++head) {
        const unsigned char* vector = vector_at(s, token, layer, part, head);
        for (size_t at = 0; at < s->engine->layout.vector_bytes; ++at, ++bytes) {
          if (vector[at] != kv_byte(s->states[token], layer, part, head, at)) {
            fail("check", "a byte is not what was computed");
          }
        }
      }
    }
  }
  return bytes;
}

static void prefill(engine* e, const char* peer, const char* address) {
  static sequence s;
  mempool_pool* pool = e->pool;
  size_t cached;
  mempool_prompt prompt;
  mempool_transfer* transfer;
  mempool_transfer_options options = {.size = sizeof options, .mode = MEMPOOL_BY_LAYER};
  mempool_report report = {.size = sizeof report};
  int ended;

  must("add_peer", mempool_add_peer(pool, peer, address));
  begin(&s, e);
  while (s.token_count < kPromptTokens) append(&s, (uint32_t)s.token_count * 7);
  prompt = prompt_of(&s);

  // What is cached need not be computed; the match has pinned it.
  must("match", mempool_match(pool, &prompt, s.blocks, kBlocksMax, &cached));
  s.block_count = cached;
  while (s.block_count * kBlockTokens < kPromptTokens) add_page(&s);

  // Each layer leaves the tensors as soon as it is computed, while the next one is.
  options.request_id = 1;
  must("transfer", mempool_transfer_with_insert(pool, peer, &prompt, s.blocks, s.block_count,
                                                &options, &transfer));
  for (uint32_t layer = 0; layer < e->layout.layers; ++layer) {
    compute(&s, layer, cached * kBlockTokens);
    must("send_layers", mempool_send_layers(transfer, layer, 1, NULL));
  }
  must("commit", mempool_commit(transfer));

  // The next prompt that begins alike finds the whole blocks in the pool, which copies them.
  must("insert", mempool_insert(pool, &prompt, s.blocks, kPromptTokens / kBlockTokens, NULL));

  must("descriptor", mempool_transfer_descriptor(transfer, &ended));
  wait_until_readable(ended);
  must("wait", mempool_wait(transfer));
  let_go(&s);
  must("report", mempool_get_report(transfer, &report));
  mempool_free_transfer(transfer);
  printf("prefill sent %llu bytes of %zu tokens over %s, %zu tokens were cached\n",
         (unsigned long long)report.bytes, s.token_count, report.transport, cached * kBlockTokens);
}

static void decode(engine* e) {
  static sequence s;
  mempool_pool* pool = e->pool;
  mempool_arrival* arrival;
  mempool_arrival_view came = {.size = sizeof came};
  mempool_prompt longer;
  size_t bytes = 0, whole, found;
  int arrives;

  begin(&s, e);
  must("descriptor", mempool_arrival_descriptor(pool, &arrives));
  puts("decode is attached");
  fflush(stdout);
  wait_until_readable(arrives);
  must("receive", mempool_receive(pool, 0, &arrival));
  must("view", mempool_view_arrival(arrival, &came));
  if (memcmp(&came.prompt.content, &s.content, sizeof s.content) != 0 ||
      came.prompt.token_count > kPromptTokens) {
    fail("receive", "KV of another model, or too much of it");
  }

  // All of it is there, and pinned for this engine.
  for (size_t i = 0; i < came.prompt.token_count; ++i) append(&s, came.prompt.tokens[i]);
  memcpy(s.blocks, came.blocks, came.block_count * sizeof(mempool_block));
  s.block_count = came.block_count;
  for (size_t token = 0; token < s.token_count; ++token) bytes += check_token(&s, token);

  // The last block, which no index holds, is filled up where it came; then pages are.
  for (int step = 0; step < kDecodedTokens; ++step) {
    const size_t position = s.token_count;
    append(&s, (uint32_t)(s.states[position - 1] % 32000));
    if (position % kBlockTokens == 0) add_page(&s);
    for (uint32_t layer = 0; layer < e->layout.layers; ++layer) compute(&s, layer, position);
  }

  // A next turn of the conversation begins with all of this.
  longer = prompt_of(&s);
  whole = s.token_count / kBlockTokens;
  must("insert", mempool_insert(pool, &longer, s.blocks, whole, NULL));
  let_go(&s);
  must("match", mempool_match(pool, &longer, s.blocks, kBlocksMax, &found));
  s.block_count = found;
  if (found != whole) fail("match", "the longer prompt is not found");
  for (size_t token = 0; token < found * kBlockTokens; ++token) check_token(&s, token);
  let_go(&s);
  printf("decode checked %zu bytes from %s, decoded %d tokens, matched %zu\n", bytes, came.source,
         kDecodedTokens, found * kBlockTokens);
  mempool_free_arrival(arrival);
}

int main(int count, char** words) {
  const int prefills = count == 5 && strcmp(words[1], "prefill") == 0;
  const int decodes = count == 3 && strcmp(words[1], "decode") == 0;
  static engine e;

  if (!prefills && !decodes) {
    fputs("usage: paged_engine_c prefill SOCKET PEER HOST:PORT | decode SOCKET\n", stderr);
    return 2;
  }
  start(&e, words[2]);
  if (prefills) {
    prefill(&e, words[3], words[4]);
  } else {
    decode(&e);
  }
  stop(&e);
  return 0;
}
