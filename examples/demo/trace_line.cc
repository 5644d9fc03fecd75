// SPDX-License-Identifier: Apache-2.0
// Owns the checks of a trace line: it comes from outside.
#include "examples/demo/trace_line.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "core/random.h"

namespace mempool::demo {
namespace {

using Json = nlohmann::json;

Result<Json> parse_object(std::string_view text) {
  if (text.size() > kTraceLineBytesMax) {
    return invalid_argument(
        fmt::format("{} bytes long; a request takes at most {}", text.size(), kTraceLineBytesMax));
  }
  Json document;
  try {
    document = Json::parse(text);
  } catch (const Json::parse_error& error) {
    return invalid_argument(fmt::format("not JSON from byte {} on", error.byte));
  } catch (const Json::out_of_range&) {
    return invalid_argument("a number in it is too large");
  }
  if (!document.is_object()) {
    return invalid_argument(fmt::format("an object is needed, not {}", document.type_name()));
  }
  return document;
}

Result<uint64_t> count_of(const Json& document, const char* name) {
  const auto member = document.find(name);
  if (member == document.end()) return invalid_argument(fmt::format("'{}' is missing", name));
  if (!member->is_number_unsigned()) {
    return invalid_argument(fmt::format("'{}' must be a whole number from 0", name));
  }
  return member->get<uint64_t>();
}

}  // namespace

Result<TraceLine> decode_trace_line(std::string_view text) {
  MEMPOOL_ASSIGN_OR_RETURN(const Json document, parse_object(text));
  TraceLine line;
  MEMPOOL_ASSIGN_OR_RETURN(line.input_length, count_of(document, "input_length"));
  MEMPOOL_ASSIGN_OR_RETURN(line.output_length, count_of(document, "output_length"));
  const auto timestamp = document.find("timestamp");
  if (timestamp == document.end() || !timestamp->is_number()) {
    return invalid_argument("'timestamp' must be a number of milliseconds");
  }
  const auto ids = document.find("hash_ids");
  const auto is_id = [](const Json& id) { return id.is_number_unsigned(); };
  if (ids == document.end() || !ids->is_array() || !std::all_of(ids->begin(), ids->end(), is_id)) {
    return invalid_argument("'hash_ids' must be a list of whole numbers from 0");
  }
  for (const Json& id : *ids) line.hash_ids.push_back(id.get<uint64_t>());
  const uint64_t needed =
      line.input_length / kTraceIdTokens + (line.input_length % kTraceIdTokens != 0 ? 1 : 0);
  if (line.input_length == 0 || needed != line.hash_ids.size()) {
    return invalid_argument(
        fmt::format("{} tokens of input make {} hash_ids of {}, the line has {}", line.input_length,
                    needed, kTraceIdTokens, line.hash_ids.size()));
  }
  return line;
}

std::vector<TokenId> trace_tokens(const TraceLine& line, uint32_t scale) {
  MEMPOOL_CHECK(scale > 0 && kTraceIdTokens % scale == 0);
  const size_t count = std::max<uint64_t>(1, line.input_length / scale);
  std::vector<TokenId> tokens;
  tokens.reserve(count);
  for (const uint64_t id : line.hash_ids) {
    Random random(Random(id).next());  // hashed, so that ids side by side do not draw alike
    for (uint32_t i = 0; i < kTraceIdTokens / scale && tokens.size() < count; ++i) {
      tokens.push_back(static_cast<TokenId>(random.next()));
    }
  }
  return tokens;
}

}  // namespace mempool::demo
