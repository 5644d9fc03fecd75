// SPDX-License-Identifier: Apache-2.0
// Owns an engine as a process: it attaches to the socket argv[1], takes argv[2] blocks, hands the
// first layer of a prompt to the peer "decode", says "ready", and stays until it is killed. With
// "closed" as argv[3] it closes every socket then, but goes on as a process that has the pool
// mapped.
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "mempool/attach.h"
#include "tests/agent/agent_pair.h"

int main(int argc, char** argv) {
  using namespace mempool;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (argc < 3) return 2;
  AttachOptions options;
  options.path = argv[1];
  auto engine = attach(options);
  if (!engine.ok()) return 3;
  auto content = (*engine)->content(mempool::testing::small_spec());
  auto blocks = (*engine)->alloc(static_cast<size_t>(std::atoi(argv[2])));
  const auto tokens = mempool::testing::make_tokens(8);
  const auto filled = mempool::testing::filled_blocks(**engine, tokens);
  TransferOptions by_layer;
  by_layer.mode = TransferMode::kByLayer;
  auto transfer = (*engine)->transfer_with_insert("decode", {*content, tokens}, filled, by_layer);
  if (!blocks.ok() || !transfer.ok() || !transfer->send_layers(0, 1).ok()) return 4;
  if (argc > 3 && std::string_view(argv[3]) == "closed") {
    for (int descriptor = 3; descriptor < 64; ++descriptor) ::close(descriptor);
  }
  std::puts("ready");
  std::fflush(stdout);
  for (;;) ::pause();
}
