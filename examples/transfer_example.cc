// SPDX-License-Identifier: Apache-2.0
// Owns the smallest whole use of the library: two agents, one prompt, its KV moved and found.
#include <algorithm>
#include <cstdio>

#include "mempool/agent.h"

using namespace mempool;

int main() {
  AgentOptions options;
  options.content = {.model = "tiny", .layers = 1, .kv_heads = 4, .head_size = 64};
  options.segment_blocks = {64};
  options.name = "decode";
  const auto decode = Agent::start(options).value();
  options.name = "prefill";
  options.peers["decode"] = decode->status().listen;
  const auto prefill = Agent::start(options).value();

  const std::vector<TokenId> tokens(40, 7);  // two whole blocks of 16 tokens, half of a third
  const Prompt prompt{prefill->content(options.content).value(), tokens};
  const std::vector<BlockAddress> blocks = prefill->alloc(3).value();
  for (const BlockAddress& block : blocks) {
    for (const uint32_t part : {0, 1}) {  // an engine computes K and V here
      std::ranges::fill(prefill->piece(block, 0, part).value(), std::byte{42});
    }
  }
  prefill->insert(prompt, std::span(blocks).first(2)).value();
  const Status moved = prefill->transfer_with_insert("decode", prompt, blocks).value().wait();

  const Arrival arrival = decode->receive(std::chrono::seconds(5)).value();
  const MatchResult found = decode->match(prompt);
  std::printf("%zu tokens came from %s, %zu of them are found in whole blocks\n",
              arrival.tokens.size(), arrival.source.c_str(), found.tokens);
  return moved.ok() && found.tokens == 32 ? 0 : 1;
}
