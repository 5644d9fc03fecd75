// SPDX-License-Identifier: Apache-2.0
// Owns the fuzz target of recorded traces, as the demo and `mempool replay` read them: any line or
// file is refused, or gives the prompts it promises.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "examples/demo/trace_line.h"
#include "perf/request_trace.h"

namespace {

void check_line(std::string_view text) {
  const auto line = mempool::demo::decode_trace_line(text);
  if (!line.ok()) return;
  const std::vector<mempool::TokenId> whole = mempool::demo::trace_tokens(*line, 1);
  MEMPOOL_CHECK(whole.size() == line->input_length);
  const std::vector<mempool::TokenId> scaled = mempool::demo::trace_tokens(*line, 32);
  MEMPOOL_CHECK(scaled.size() == std::max<uint64_t>(1, line->input_length / 32));
}

void check_file(std::string_view text) {
  std::istringstream stream{std::string(text)};
  const auto trace = mempool::read_request_trace(stream, {.block_tokens = 2});
  if (!trace.ok()) return;
  uint64_t tokens = 0;
  for (const mempool::TraceRequest& request : trace->requests) {
    MEMPOOL_CHECK(request.blocks.size() == request.tokens / trace->block_tokens);
    for (const uint32_t block : request.blocks) MEMPOOL_CHECK(block < trace->distinct_blocks);
    tokens += request.tokens;
  }
  MEMPOOL_CHECK(tokens == trace->tokens && trace->distinct_blocks > 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_line(text);
  check_file(text);
  return 0;
}
