// SPDX-License-Identifier: Apache-2.0
// Owns one line of a request trace in Mooncake's JSONL form:
//   {"timestamp": 0, "input_length": 700, "output_length": 50, "hash_ids": [0, 14]}
// An id names 512 tokens and all before them; the last id of a line may be partial.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "mempool/status.h"
#include "mempool/types.h"

namespace mempool::demo {

inline constexpr uint32_t kTraceIdTokens = 512;
inline constexpr size_t kTraceLineBytesMax = size_t{64} << 10;

struct TraceLine {
  uint64_t input_length = 0;  // tokens of the prompt
  uint64_t output_length = 0;
  std::vector<uint64_t> hash_ids;  // as many as input_length fills, the last one maybe partly
};

/// Decode a line; members beside the four are ignored. Errors: kInvalidArgument, saying what is
/// wrong with it.
Result<TraceLine> decode_trace_line(std::string_view text);

/// Make the prompt of a line, `scale` times shorter than recorded: each id gives 512 / scale tokens
/// of its own. Requires: scale divides 512.
std::vector<TokenId> trace_tokens(const TraceLine& line, uint32_t scale);

}  // namespace mempool::demo
