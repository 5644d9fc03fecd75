// SPDX-License-Identifier: Apache-2.0
// Owns an engine as a process: it attaches to the socket argv[1], takes argv[2] blocks, hands the
// first layer of a prompt to the peer "decode", has it hold three blocks, says "ready", and stays
// until it is killed. With "closed" as argv[3] it closes every socket then, but goes on as a
// process that has the pool mapped. With "forked" it has a child, which does nothing and outlives
// it. With "rank" it is rank argv[4] of argv[5], which attaches and does nothing. With "lends" it
// lends eight blocks of its own, publishes a prompt of 8 tokens in two of them and holds a third.
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>

#include "mempool/attach.h"
#include "tests/agent/agent_pair.h"
#include "tests/agent/engine_memory.h"

namespace {

[[noreturn]] void say_ready_and_stay() {
  std::puts("ready");
  std::fflush(stdout);
  for (;;) ::pause();
}

bool lend(mempool::Pool& engine, const mempool::Content& content) {
  using namespace mempool;
  static const mempool::testing::EngineMemory tensors(engine.layout(), 8);
  if (!engine.adopt("kv", tensors.options(/*in_place=*/true)).ok()) return false;
  const uint32_t numbers[] = {2, 5, 7};
  const auto blocks = engine.claim("kv", numbers);
  if (!blocks.ok()) return false;
  const auto tokens = mempool::testing::make_tokens(8);
  const auto prompt = std::span(*blocks).first(2);
  for (size_t i = 0; i < 2; ++i) mempool::testing::fill(engine, prompt[i], tokens[4 * i]);
  return engine.insert({content, tokens}, prompt).ok() && engine.unpin(prompt).ok();
}

}  // namespace

int main(int argc, char** argv) {
  using namespace mempool;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (argc < 3) return 2;
  AttachOptions options;
  options.path = argv[1];
  const std::string_view mode = argc > 3 ? argv[3] : "";
  if (mode == "rank") {
    options.shard = static_cast<uint32_t>(std::atoi(argv[4]));
    options.shards = static_cast<uint32_t>(std::atoi(argv[5]));
  }
  auto engine = attach(options);
  if (!engine.ok()) return 3;
  if (mode == "rank") say_ready_and_stay();
  auto content = (*engine)->content(mempool::testing::small_spec());
  if (mode == "lends") {
    if (!lend(**engine, *content)) return 6;
    say_ready_and_stay();
  }
  auto blocks = (*engine)->alloc(static_cast<size_t>(std::atoi(argv[2])));
  const auto tokens = mempool::testing::make_tokens(8);
  const auto filled = mempool::testing::filled_blocks(**engine, tokens);
  TransferOptions by_layer;
  by_layer.mode = TransferMode::kByLayer;
  auto transfer = (*engine)->transfer_with_insert("decode", {*content, tokens}, filled, by_layer);
  if (!blocks.ok() || !transfer.ok() || !transfer->send_layers(0, 1).ok()) return 4;
  if (!(*engine)->alloc(3, Medium::kHost, "decode").ok()) return 5;
  if (mode == "forked" && ::fork() == 0) {
    prctl(PR_SET_PDEATHSIG, 0);
    ::close(STDOUT_FILENO);  // who reads the test's output waits for its end
    ::close(STDERR_FILENO);
    alarm(60);  // its engine's death is what the test is about; this ends it some time after
    for (;;) ::pause();
  }
  if (mode == "closed") {
    for (int descriptor = 3; descriptor < 64; ++descriptor) ::close(descriptor);
  }
  say_ready_and_stay();
}
