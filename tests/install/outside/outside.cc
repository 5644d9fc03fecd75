// SPDX-License-Identifier: Apache-2.0
// Owns a program as a user writes it: start an agent, publish one block, find it again. Names of
// transports that are modules may be its arguments: each must be found, whether or not it opens.
#include <cstdio>
#include <numeric>
#include <string_view>
#include <vector>

#include "mempool/agent.h"
#include "mempool/version.h"

namespace {

int fail(const char* what, const mempool::Status& status) {
  std::fprintf(stderr, "%s: %s\n", what, status.to_string().c_str());
  return 1;
}

bool is_found(mempool::AgentOptions options, const char* module) {
  options.transports = {module};
  const mempool::Status status = mempool::Agent::start(options).status();
  return status.message().find("no mempool_transport_") == std::string_view::npos;
}

}  // namespace

int main(int count, char** arguments) {
  mempool::AgentOptions options;
  options.content = {.model = "tiny", .layers = 2, .kv_heads = 2, .head_size = 8};
  options.segment_blocks = {8};
  for (int i = 1; i < count; ++i) {
    if (!is_found(options, arguments[i])) return fail("module", mempool::not_found(arguments[i]));
  }
  auto agent = mempool::Agent::start(options);
  if (!agent.ok()) return fail("start", agent.status());
  const auto content = (*agent)->content(options.content);
  if (!content.ok()) return fail("content", content.status());

  std::vector<mempool::TokenId> tokens(16);
  std::iota(tokens.begin(), tokens.end(), 1);
  const mempool::Prompt prompt{*content, tokens};
  const auto blocks = (*agent)->alloc(1);
  if (!blocks.ok()) return fail("alloc", blocks.status());
  const auto inserted = (*agent)->insert(prompt, *blocks);
  if (!inserted.ok()) return fail("insert", inserted.status());
  const mempool::MatchResult match = (*agent)->match(prompt);
  if (match.tokens != tokens.size()) return fail("match", mempool::not_found("the prompt"));
  std::printf("mempool %s: matched %zu tokens\n", mempool::version().data(), match.tokens);
  return 0;
}
