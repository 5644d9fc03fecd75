// SPDX-License-Identifier: Apache-2.0
// Owns the shape of the smallest useful block: one layer, one part, 4 bytes a token.
#include "perf/small_pool.h"

namespace mempool {

AgentOptions small_pool(uint32_t blocks, const std::string& verify) {
  AgentOptions options;
  options.name = "perf";
  options.transports = {"local"};
  options.content.model = "perf";
  options.content.element = ElementType::kInt8;
  options.content.layers = 1;
  options.content.kv_heads = 1;
  options.content.mla_rank = 4;
  options.content.tokens_per_block = 16;
  options.segment_blocks = {blocks};
  options.verify = verify;
  return options;
}

}  // namespace mempool
