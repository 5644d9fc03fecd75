// SPDX-License-Identifier: Apache-2.0
// Owns the fuzz target of replayed traces: any file is refused, or gives blocks that add up.
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>

#include "core/check.h"
#include "perf/request_trace.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::istringstream stream(std::string(reinterpret_cast<const char*>(data), size));
  const auto trace = mempool::read_request_trace(stream, {.block_tokens = 2});
  if (!trace.ok()) return 0;
  uint64_t tokens = 0;
  for (const mempool::TraceRequest& request : trace->requests) {
    MEMPOOL_CHECK(request.blocks.size() == request.tokens / trace->block_tokens);
    for (const uint32_t block : request.blocks) MEMPOOL_CHECK(block < trace->distinct_blocks);
    tokens += request.tokens;
  }
  MEMPOOL_CHECK(tokens == trace->tokens && trace->distinct_blocks > 0);
  return 0;
}
