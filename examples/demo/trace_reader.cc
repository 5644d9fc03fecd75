// SPDX-License-Identifier: Apache-2.0
// Owns the walk over a trace file's lines.
#include "examples/demo/trace_reader.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>

#include <fmt/format.h>

#include "examples/demo/trace_line.h"

namespace mempool::demo {

Result<std::vector<std::vector<TokenId>>> read_trace(const std::string& path, uint32_t scale,
                                                     size_t requests) {
  if (scale == 0 || kTraceIdTokens % scale != 0) {
    return invalid_argument(
        fmt::format("scale {} does not divide the {} tokens of an id; give a power of two up to it",
                    scale, kTraceIdTokens));
  }
  std::ifstream file(path);
  if (!file) return not_found(fmt::format("trace {}: {}", path, std::strerror(errno)));

  std::vector<std::vector<TokenId>> prompts;
  std::string text(kTraceLineBytesMax + 2, '\0');  // one too long shows, and is read no further
  while (prompts.size() < requests) {
    file.getline(text.data(), static_cast<std::streamsize>(text.size()));
    const auto taken = static_cast<size_t>(file.gcount());
    if (taken == 0) break;
    const Result<TraceLine> line =
        decode_trace_line(std::string_view(text.data(), file.good() ? taken - 1 : taken));
    if (!line.ok()) {
      return line.status().with_context(fmt::format("trace {} line {}", path, prompts.size() + 1));
    }
    prompts.push_back(trace_tokens(*line, scale));
  }
  if (prompts.empty()) return invalid_argument(fmt::format("trace {}: no request in it", path));
  return prompts;
}

}  // namespace mempool::demo
