// SPDX-License-Identifier: Apache-2.0
// Owns a small paged-KV engine, to be read by whoever wires mempool into a real one: it attaches to
// its agent, which adopts its tensors, and prefills a prompt for another engine out of them, or
// receives one and decodes on.
//
//   paged_engine prefill SOCKET PEER HOST:PORT
//   paged_engine decode SOCKET
//
// Where a call fails this engine ends, and with it everything that it held is given back. A real
// one computes the prompt itself instead.
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mempool/attach.h"

using namespace mempool;
using std::chrono::milliseconds;

namespace {

constexpr size_t kPromptTokens = 100;  // the last block is not full
constexpr size_t kDecodedTokens = 30;
constexpr uint32_t kPages = 16;
constexpr int kPatienceMs = 30000;
const std::string kTensors = "kv";  // the name under which they are adopted

ContentSpec model() {
  return {.model = "paged-engine", .layers = 4, .kv_heads = 2, .head_size = 64};
}

[[noreturn]] void fail(std::string_view step, const Status& why) {
  std::fprintf(stderr, "%.*s: %s\n", static_cast<int>(step.size()), step.data(),
               why.to_string().c_str());
  std::exit(1);
}

void must(std::string_view step, const Status& status) {
  if (!status.ok()) fail(step, status);
}

template <typename T>
T must(std::string_view step, Result<T> result) {
  if (!result.ok()) fail(step, result.status());
  return std::move(*result);
}

/// Stands for the event loop of an engine, which waits for much more than this.
void wait_until_readable(int descriptor) {
  pollfd waits = {descriptor, POLLIN, 0};
  if (poll(&waits, 1, kPatienceMs) != 1) fail("poll", deadline_exceeded("nothing happened"));
}

/// Stands for the model: the next token, and the KV of each, depend on all tokens before.
struct Sequence {
  std::vector<TokenId> tokens;
  std::vector<uint64_t> states;  // one a token

  void append(TokenId token) {
    const uint64_t before = states.empty() ? 1 : states.back();
    const uint64_t mixed = (before ^ token) * 0x9e3779b97f4a7c15u;
    tokens.push_back(token);
    states.push_back(mixed ^ (mixed >> 29));
  }
  TokenId next() const { return static_cast<TokenId>(states.back() % 32000); }
};

unsigned char kv_byte(uint64_t state, uint32_t layer, uint32_t part, uint32_t head, size_t at) {
  return static_cast<unsigned char>((state >> (at % 8 * 8)) + 31 * layer + 17 * part + 7 * head +
                                    at);
}

/// The engine's own paged KV, [layer][part][page][token][head] as vLLM has it, and the pages of it
/// that no sequence has. It lies in a memfd, for agents to map.
class Tensors {
 public:
  explicit Tensors(Pool& pool) : pool_(pool) {
    const BlockLayout& layout = pool.layout();
    memory_.bytes = kPages * layout.block_bytes;
    memory_.block_stride = layout.piece_bytes;
    memory_.part_stride = kPages * memory_.block_stride;
    memory_.layer_stride = layout.parts * memory_.part_stride;
    memory_.descriptor = memfd_create(kTensors.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void* data = MAP_FAILED;
    if (ftruncate(memory_.descriptor, static_cast<off_t>(memory_.bytes)) == 0 &&
        fcntl(memory_.descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0) {
      data =
          mmap(nullptr, memory_.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory_.descriptor, 0);
    }
    if (data == MAP_FAILED) fail("tensors", resource_exhausted("no memfd of this size"));
    memory_.data = static_cast<std::byte*>(data);
    must("adopt", pool.adopt(kTensors, {.blocks = kPages, .shards = {memory_}}));
    for (uint32_t page = 0; page < kPages; ++page) free_.push_back(page);
  }
  ~Tensors() {
    must("withdraw", pool_.withdraw(kTensors, milliseconds(kPatienceMs)));
    munmap(memory_.data, memory_.bytes);
    close(memory_.descriptor);
  }
  Tensors(const Tensors&) = delete;
  Tensors& operator=(const Tensors&) = delete;

  uint32_t take() {
    if (free_.empty()) fail("take", resource_exhausted("every page has its sequence"));
    const uint32_t page = free_.back();
    free_.pop_back();
    return page;
  }
  void give_back(std::span<const uint32_t> pages) {
    free_.insert(free_.end(), pages.begin(), pages.end());
  }
  std::byte* piece(uint32_t page, uint32_t layer, uint32_t part) const {
    return memory_.data + page * memory_.block_stride + layer * memory_.layer_stride +
           part * memory_.part_stride;
  }

 private:
  Pool& pool_;
  AdoptedMemory memory_;
  std::vector<uint32_t> free_;
};

/// The KV cache of one sequence, in token order: blocks of the pool, which were matched or came,
/// then pages of the engine's own.
struct PagedCache {
  Pool& pool;
  Tensors& tensors;
  std::vector<BlockAddress> blocks;  // all of them
  std::vector<uint32_t> pages = {};  // the numbers of the last ones

  void add_page() {
    pages.push_back(tensors.take());
    blocks.push_back(must("claim", pool.claim(kTensors, {&pages.back(), 1})).front());
  }
  void let_go() {
    must("unpin", pool.unpin(blocks));
    tensors.give_back(pages);
  }
  std::byte* piece(size_t position, uint32_t layer, uint32_t part) const {
    const size_t first_page = blocks.size() - pages.size();
    if (position >= first_page) return tensors.piece(pages[position - first_page], layer, part);
    return must("piece", pool.piece(blocks[position], layer, part)).data();
  }
  /// Visit the vectors of one layer of tokens [first, last), as attention kernels do.
  template <typename Visit>
  void for_each_vector(uint32_t layer, size_t first, size_t last, const Visit& visit) const {
    const BlockLayout& layout = pool.layout();
    for (size_t token = first; token < last; ++token) {
      const auto place = static_cast<uint32_t>(token % layout.tokens);
      for (uint32_t part = 0; part < layout.parts; ++part) {
        std::byte* const at = piece(token / layout.tokens, layer, part);
        for (uint32_t head = 0; head < layout.heads; ++head) {
          visit(token, part, head,
                std::span(at + layout.vector_offset(place, head), layout.vector_bytes));
        }
      }
    }
  }
  void compute(const Sequence& sequence, uint32_t layer, size_t first) {
    for_each_vector(layer, first, sequence.tokens.size(),
                    [&](size_t token, uint32_t part, uint32_t head, std::span<std::byte> vector) {
                      for (size_t at = 0; at < vector.size(); ++at) {
                        vector[at] =
                            std::byte{kv_byte(sequence.states[token], layer, part, head, at)};
                      }
                    });
  }
  /// Give how many bytes are as compute() makes them; one that is not ends the engine.
  size_t check(const Sequence& sequence, size_t tokens) const {
    size_t bytes = 0;
    for (uint32_t layer = 0; layer < pool.layout().layers; ++layer) {
      for_each_vector(
          layer, 0, tokens,
          [&](size_t token, uint32_t part, uint32_t head, std::span<std::byte> vector) {
            for (size_t at = 0; at < vector.size(); ++at, ++bytes) {
              if (vector[at] != std::byte{kv_byte(sequence.states[token], layer, part, head, at)}) {
                fail("check", corruption("token " + std::to_string(token)));
              }
            }
          });
    }
    return bytes;
  }
};

void prefill(Pool& pool, Tensors& tensors, const std::string& peer, const std::string& address) {
  pool.add_peer(peer, address);
  Sequence sequence;
  while (sequence.tokens.size() < kPromptTokens) {
    sequence.append(static_cast<TokenId>(sequence.tokens.size() * 7));
  }
  const Prompt prompt{must("content", pool.content(model())), sequence.tokens};

  // What is cached need not be computed; match() has pinned it.
  const size_t block_tokens = pool.layout().tokens;
  MatchResult cached = pool.match(prompt);
  PagedCache cache{pool, tensors, std::move(cached.blocks)};
  while (cache.blocks.size() * block_tokens < kPromptTokens) cache.add_page();

  // Each layer leaves the tensors as soon as it is computed, while the next one is.
  TransferOptions options;
  options.mode = TransferMode::kByLayer;
  options.request_id = 1;
  Transfer transfer =
      must("transfer", pool.transfer_with_insert(peer, prompt, cache.blocks, options));
  for (uint32_t layer = 0; layer < pool.layout().layers; ++layer) {
    cache.compute(sequence, layer, cached.tokens);
    must("send_layers", transfer.send_layers(layer, 1));
  }
  must("commit", transfer.commit());

  // The next prompt that begins alike finds the whole blocks in the pool, which copies them.
  const std::span<const BlockAddress> whole(cache.blocks.data(), kPromptTokens / block_tokens);
  must("insert", pool.insert(prompt, whole).status());

  wait_until_readable(must("event_descriptor", transfer.event_descriptor()));
  must("wait", transfer.wait());
  cache.let_go();
  const TransferReport report = transfer.report();
  std::printf("prefill sent %llu bytes of %zu tokens over %s, %zu tokens were cached\n",
              static_cast<unsigned long long>(report.bytes), sequence.tokens.size(),
              report.transport.c_str(), cached.tokens);
}

void decode(Pool& pool, Tensors& tensors) {
  const Content content = must("content", pool.content(model()));
  const int arrives = must("arrival_descriptor", pool.arrival_descriptor());
  std::puts("decode is attached");
  std::fflush(stdout);
  wait_until_readable(arrives);
  Arrival arrival = must("receive", pool.receive(milliseconds(0)));
  if (arrival.content != content) fail("receive", invalid_argument("KV of another model"));

  // All of it is there, and pinned for this engine.
  Sequence sequence;
  for (const TokenId token : arrival.tokens) sequence.append(token);
  PagedCache cache{pool, tensors, std::move(arrival.blocks)};
  const size_t bytes = cache.check(sequence, sequence.tokens.size());

  // The last block, which no index holds, is filled up where it came; then pages are.
  const size_t block_tokens = pool.layout().tokens;
  for (size_t step = 0; step < kDecodedTokens; ++step) {
    const size_t position = sequence.tokens.size();
    sequence.append(sequence.next());
    if (position % block_tokens == 0) cache.add_page();
    for (uint32_t layer = 0; layer < pool.layout().layers; ++layer) {
      cache.compute(sequence, layer, position);
    }
  }

  // A next turn of the conversation begins with all of this.
  const Prompt longer{content, sequence.tokens};
  const size_t whole = sequence.tokens.size() / block_tokens;
  must("insert", pool.insert(longer, {cache.blocks.data(), whole}).status());
  cache.let_go();
  MatchResult found = pool.match(longer);
  if (found.tokens != whole * block_tokens) fail("match", not_found("the longer prompt"));
  PagedCache next{pool, tensors, std::move(found.blocks)};
  next.check(sequence, found.tokens);
  next.let_go();
  std::printf("decode checked %zu bytes from %s, decoded %zu tokens, matched %zu\n", bytes,
              arrival.source.c_str(), kDecodedTokens, found.tokens);
}

}  // namespace

int main(int count, char** words) {
  const std::string_view role = count > 2 ? words[1] : "";
  if (!(role == "prefill" && count == 5) && !(role == "decode" && count == 3)) {
    std::fputs("usage: paged_engine prefill SOCKET PEER HOST:PORT | decode SOCKET\n", stderr);
    return 2;
  }
  AttachOptions options;
  options.path = words[2];
  const std::unique_ptr<Pool> pool = must("attach", attach(options));
  Tensors tensors(*pool);
  role == "prefill" ? prefill(*pool, tensors, words[3], words[4]) : decode(*pool, tensors);
  return 0;
}
