// SPDX-License-Identifier: Apache-2.0
// Owns the checks of trace files, which come from outside, and the naming of their blocks.
#include "perf/request_trace.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "mempool/types.h"

namespace mempool {
namespace {

using Json = nlohmann::json;

constexpr uint32_t kMooncakeBlockTokens = 512;
constexpr uint64_t kStepMs = 1000;  // between requests that have no time
constexpr TokenId kAssistant = UINT32_MAX;
constexpr TokenId kOther = UINT32_MAX - 1;  // text is UTF-8, which has no byte of all ones
constexpr size_t kBytesPerToken = 4;

/// Collects requests, and gives each prefix of blocks one id. Thread: confined.
class TraceBuilder {
 public:
  TraceBuilder(std::string form, uint32_t block_tokens) {
    trace_.form = std::move(form);
    trace_.block_tokens = block_tokens;
  }
  size_t requests() const { return trace_.requests.size(); }
  uint64_t next_time() const { return requests() * kStepMs; }

  void add_tokens(uint64_t time_ms, std::span<const TokenId> tokens) {
    begin(time_ms, tokens.size());
    const size_t step = trace_.block_tokens;
    for (size_t end = step; end <= tokens.size(); end += step) {
      add_block(tokens.data() + end - step, step * sizeof(TokenId));
    }
  }
  /// Requires: an id for each whole block at least.
  void add_ids(uint64_t time_ms, uint64_t tokens, std::span<const uint64_t> ids) {
    begin(time_ms, tokens);
    for (const uint64_t id : ids.first(tokens / trace_.block_tokens)) add_block(&id, sizeof(id));
  }
  Result<RequestTrace> finish() {
    if (trace_.requests.empty()) return invalid_argument("there is no request in it");
    trace_.distinct_blocks = static_cast<uint32_t>(ids_.size());
    if (trace_.distinct_blocks == 0) {
      return invalid_argument(
          fmt::format("no prompt in it fills a block of {} tokens", trace_.block_tokens));
    }
    return std::move(trace_);
  }

 private:
  void begin(uint64_t time_ms, uint64_t tokens) {
    trace_.requests.push_back({time_ms, tokens, {}});
    trace_.tokens += tokens;
  }
  void add_block(const void* name, size_t bytes) {
    std::vector<uint32_t>& blocks = trace_.requests.back().blocks;
    const uint32_t before = blocks.empty() ? UINT32_MAX : blocks.back();
    key_.assign(reinterpret_cast<const char*>(&before), sizeof(before));
    key_.append(static_cast<const char*>(name), bytes);
    blocks.push_back(ids_.try_emplace(key_, static_cast<uint32_t>(ids_.size())).first->second);
  }

  RequestTrace trace_;
  std::unordered_map<std::string, uint32_t> ids_;  // the block before, and what the block holds
  std::string key_;                                // scratch of add_block()
};

Result<Json> parse_json(std::string_view text) {
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    return invalid_argument(fmt::format("not JSON from byte {} on", error.byte));
  } catch (const Json::out_of_range&) {
    return invalid_argument("a number in it is too large");
  }
}

template <typename Number>
Result<std::vector<Number>> numbers_of(const Json& list, std::string_view what) {
  const auto fits = [](const Json& each) {
    return each.is_number_unsigned() && each.get<uint64_t>() <= std::numeric_limits<Number>::max();
  };
  if (!list.is_array() || !std::ranges::all_of(list, fits)) {
    return invalid_argument(fmt::format("{} must be a list of whole numbers from 0 to {}", what,
                                        std::numeric_limits<Number>::max()));
  }
  return list.get<std::vector<Number>>();
}

Result<uint64_t> number_of(const Json& object, const char* name) {
  const auto member = object.find(name);
  if (member == object.end() || !member->is_number() || member->get<double>() < 0 ||
      member->get<double>() > 1e15) {
    return invalid_argument(fmt::format("'{}' must be a number from 0 to 1e15", name));
  }
  return static_cast<uint64_t>(member->get<double>());
}

Status add_mooncake(const Json& line, TraceBuilder& builder) {
  if (!line.is_object() || !line.contains("hash_ids")) {
    return invalid_argument("an object with 'hash_ids' is needed, as in the lines before");
  }
  MEMPOOL_ASSIGN_OR_RETURN(const uint64_t time, number_of(line, "timestamp"));
  MEMPOOL_ASSIGN_OR_RETURN(const uint64_t tokens, number_of(line, "input_length"));
  MEMPOOL_ASSIGN_OR_RETURN(const auto ids, numbers_of<uint64_t>(line["hash_ids"], "'hash_ids'"));
  const uint64_t needed = (tokens + kMooncakeBlockTokens - 1) / kMooncakeBlockTokens;
  if (tokens == 0 || ids.size() != needed) {
    return invalid_argument(fmt::format("{} tokens of input make {} hash_ids of {}, it has {}",
                                        tokens, needed, kMooncakeBlockTokens, ids.size()));
  }
  builder.add_ids(time, tokens, ids);
  return {};
}

Status add_tokens(const Json& line, TraceBuilder& builder) {
  const bool bare = line.is_array();
  if (!bare && (!line.is_object() || !line.contains("tokens"))) {
    return invalid_argument("a list of token ids or an object with 'tokens' is needed");
  }
  uint64_t time = builder.next_time();
  if (!bare && line.contains("timestamp")) {
    MEMPOOL_ASSIGN_OR_RETURN(time, number_of(line, "timestamp"));
  }
  MEMPOOL_ASSIGN_OR_RETURN(const auto tokens,
                           numbers_of<TokenId>(bare ? line : line["tokens"], "the token ids"));
  if (tokens.empty()) return invalid_argument("the prompt has no tokens");
  builder.add_tokens(time, tokens);
  return {};
}

/// Read line by line; the first one decides between the two forms.
Result<RequestTrace> read_lines(std::istream& stream, const TraceOptions& options) {
  std::optional<TraceBuilder> builder;
  bool mooncake = false;
  std::string text;
  for (size_t number = 1; std::getline(stream, text); ++number) {
    if (builder && builder->requests() == options.requests) break;
    const auto here = [number] { return fmt::format("line {}", number); };
    const Result<Json> line = parse_json(text);
    if (!line.ok()) return line.status().with_context(here());
    if (!builder) {
      mooncake = line->is_object() && line->contains("hash_ids");
      builder = mooncake ? TraceBuilder("mooncake", kMooncakeBlockTokens)
                         : TraceBuilder("tokens", options.block_tokens);
    }
    MEMPOOL_RETURN_IF_ERROR((mooncake ? add_mooncake(*line, *builder) : add_tokens(*line, *builder))
                                .with_context(here()));
  }
  if (!builder) return invalid_argument("there is no request in it");
  return builder->finish();
}

// ---- ShareGPT ----------------------------------------------------------------------------------

struct Conversation {
  std::vector<TokenId> tokens;
  std::vector<size_t> prompts;  // each request's, as the number of tokens said before
};

void append_text(std::string_view text, std::vector<TokenId>& tokens) {
  for (size_t at = 0; at < text.size(); at += kBytesPerToken) {
    const std::string_view bytes = text.substr(at, kBytesPerToken);
    TokenId token = 0;
    for (size_t i = 0; i < bytes.size(); ++i) {
      token |= static_cast<TokenId>(static_cast<unsigned char>(bytes[i])) << (8 * i);
    }
    tokens.push_back(token);
  }
}

Result<Conversation> conversation_of(const Json& entry) {
  const auto turns = entry.is_object() ? entry.find("conversations") : entry.end();
  if (turns == entry.end() || !turns->is_array()) {
    return invalid_argument("an object with a list 'conversations' is needed");
  }
  Conversation result;
  for (const Json& turn : *turns) {
    const auto is_text = [&turn](const char* name) {
      return turn.contains(name) && turn[name].is_string();
    };
    if (!turn.is_object() || !is_text("from") || !is_text("value")) {
      return invalid_argument("each turn needs the texts 'from' and 'value'");
    }
    const auto& from = turn["from"].get_ref<const std::string&>();
    const bool assistant = from != "human" && from != "user" && from != "system";
    if (assistant && !result.tokens.empty()) result.prompts.push_back(result.tokens.size());
    result.tokens.push_back(assistant ? kAssistant : kOther);
    append_text(turn["value"].get_ref<const std::string&>(), result.tokens);
  }
  return result;
}

/// So many conversations at once, each its next request in turn; one that ends makes room.
Result<RequestTrace> take_turns(const std::vector<Conversation>& conversations,
                                const TraceOptions& options) {
  TraceBuilder builder("sharegpt", options.block_tokens);
  std::vector<std::pair<size_t, size_t>> open;  // a conversation, and its next prompt
  size_t next = 0;
  do {
    while (open.size() < options.conversations && next < conversations.size()) {
      open.emplace_back(next++, 0);
    }
    for (auto& [conversation, prompt] : open) {
      const Conversation& each = conversations[conversation];
      if (prompt == each.prompts.size() || builder.requests() == options.requests) continue;
      builder.add_tokens(builder.next_time(), std::span(each.tokens).first(each.prompts[prompt++]));
    }
    std::erase_if(open, [&](const auto& each) {
      return each.second == conversations[each.first].prompts.size();
    });
  } while ((!open.empty() || next < conversations.size()) && builder.requests() < options.requests);
  return builder.finish();
}

Result<RequestTrace> read_conversations(std::istream& stream, const TraceOptions& options) {
  const std::string text(std::istreambuf_iterator<char>(stream), {});
  Json document;
  try {
    document = Json::parse(text);
  } catch (const Json::parse_error& error) {
    const auto end = text.begin() + static_cast<ptrdiff_t>(std::min(error.byte, text.size()));
    return invalid_argument(
        fmt::format("line {}: not JSON from here on", 1 + std::count(text.begin(), end, '\n')));
  } catch (const Json::out_of_range&) {
    return invalid_argument("a number in it is too large");
  }
  std::vector<Conversation> conversations;
  for (const Json& entry : document) {
    Result<Conversation> conversation = conversation_of(entry);
    if (!conversation.ok()) {
      return conversation.status().with_context(
          fmt::format("conversation {}", conversations.size() + 1));
    }
    conversations.push_back(std::move(*conversation));
  }
  return take_turns(conversations, options);
}

/// A list of objects, not of token ids. Leaves the stream at its start.
bool is_list_of_objects(std::istream& stream) {
  char first = 0, second = 0;
  stream >> first;
  if (first == '[') stream >> second;  // skips blanks and line ends
  stream.clear();
  stream.seekg(0);
  return second == '{';
}

}  // namespace

Result<RequestTrace> read_request_trace(std::istream& stream, const TraceOptions& options) {
  if (options.block_tokens == 0 || options.conversations == 0 || options.requests == 0) {
    return invalid_argument(
        "blocks of 0 tokens, 0 conversations or 0 requests make no trace; give 1 at least");
  }
  return is_list_of_objects(stream) ? read_conversations(stream, options)
                                    : read_lines(stream, options);
}

Result<RequestTrace> read_request_trace_file(const std::string& path, const TraceOptions& options) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return not_found(fmt::format("{}: {}", path, std::strerror(errno)));
  Result<RequestTrace> trace = read_request_trace(file, options);
  if (!trace.ok()) return trace.status().with_context(path);
  return trace;
}

}  // namespace mempool
