// SPDX-License-Identifier: Apache-2.0
// Owns the smallest whole use of the library: two agents, one prompt, its KV moved and found.
#include <cstring>
#include <numeric>

#include "mempool/agent.h"

using namespace mempool;

int main() {
  AgentOptions options;
  options.content = {.model = "tiny", .layers = 2, .kv_heads = 4, .head_size = 64};
  options.segment_blocks = {64};
  options.name = "decode";
  auto decode = Agent::start(options).value();
  options.name = "prefill";
  options.peers = {{"decode", decode->status().listen}};
  auto prefill = Agent::start(options).value();

  std::vector<TokenId> tokens(40);  // two whole blocks of 16 tokens and half of a third
  std::iota(tokens.begin(), tokens.end(), 0);
  const Prompt prompt{prefill->content(options.content).value(), tokens};
  const auto blocks = prefill->alloc(3).value();
  for (const auto& block : blocks) {
    for (uint32_t layer = 0; layer < 2; ++layer) {
      for (uint32_t part = 0; part < 2; ++part) {  // K and V
        auto piece = prefill->piece(block, layer, part).value();
        std::memset(piece.data(), 1 + block.index(), piece.size());
      }
    }
  }
  prefill->insert(prompt, std::span(blocks).first(2)).value();
  const Status moved = prefill->transfer_with_insert("decode", prompt, blocks).value().wait();
  const Arrival arrival = decode->receive(std::chrono::seconds(5)).value();
  const MatchResult found = decode->match(prompt);  // the whole blocks, by their tokens
  return moved.ok() && arrival.blocks.size() == 3 && found.tokens == 32 ? 0 : 1;
}
