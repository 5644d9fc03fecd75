// SPDX-License-Identifier: Apache-2.0
// Owns the fuzz target of trace lines: any line is refused, or gives the prompt it promises.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "examples/demo/trace_line.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using mempool::TokenId;
  const auto line =
      mempool::demo::decode_trace_line(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!line.ok()) return 0;
  const std::vector<TokenId> whole = mempool::demo::trace_tokens(*line, 1);
  MEMPOOL_CHECK(whole.size() == line->input_length);
  const std::vector<TokenId> scaled = mempool::demo::trace_tokens(*line, 32);
  MEMPOOL_CHECK(scaled.size() == std::max<uint64_t>(1, line->input_length / 32));
  return 0;
}
