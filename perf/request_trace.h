// SPDX-License-Identifier: Apache-2.0
// Owns a recorded run of requests as a cache sees it, and the forms of files it is read from.
//
//   Mooncake's JSONL   {"timestamp": 0, "input_length": 700, "output_length": 5, "hash_ids": [0,
//   14]}
//                      512 tokens an id; an id names them and all before them
//   token ids, JSONL   {"tokens": [1, 2, 3]} or [1, 2, 3], a prompt a line; "timestamp" (ms) may be
//                      there
//   ShareGPT's JSON    [{"conversations": [{"from": "human", "value": "..."}, ...]}, ...]
#pragma once

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "mempool/status.h"

namespace mempool {

struct TraceRequest {
  uint64_t time_ms = 0;
  uint64_t tokens = 0;           // of the prompt, with those of a last block that is not whole
  std::vector<uint32_t> blocks;  // ids of its whole blocks, in order
};

/// A block's id names its tokens and all before them, so equal ids are equal prefixes.
struct RequestTrace {
  std::string form;  // "mooncake", "tokens" or "sharegpt"
  uint32_t block_tokens = 0;
  uint32_t distinct_blocks = 0;  // ids are below
  uint64_t tokens = 0;           // of all requests
  std::vector<TraceRequest> requests;
};

struct TraceOptions {
  uint32_t block_tokens = 16;   // where the file does not say; Mooncake's has 512
  size_t requests = SIZE_MAX;   // the first so many
  uint32_t conversations = 64;  // ShareGPT: under way at once, taking turns
};

/// Tell the form by the first characters, and read. Requests without a time come a second apart.
/// ShareGPT has text and no tokens: a stand-in makes one token of each 4 bytes of a turn, and one
/// of its speaker. Each turn of the assistant is a request, whose prompt is all that was said
/// before.
/// Errors: kInvalidArgument naming the line (ShareGPT: the conversation) and what is wrong with it.
Result<RequestTrace> read_request_trace(std::istream& stream, const TraceOptions& options);
/// Errors: kNotFound for a file that cannot be opened; as read_request_trace().
Result<RequestTrace> read_request_trace_file(const std::string& path, const TraceOptions& options);

}  // namespace mempool
