// SPDX-License-Identifier: Apache-2.0
// Owns a process with an agent that sends what it is told: a line "FIRST_TOKEN DEADLINE_MS" comes
// in, the call's status code goes out. A test stops it and lets it go on.
#include <iostream>
#include <string>

#include "tests/agent/agent_pair.h"
#include "tests/agent/large_kv.h"

namespace mempool {
namespace {

int send_as_told(const std::string& target) {
  const auto agent = testing::start_agent(testing::large_options("child"));
  if (agent == nullptr) return 1;
  agent->add_peer("target", target);
  const Content content = *make_content(testing::large_spec());
  TokenId first = 0;
  int64_t deadline_ms = 0;
  while (std::cin >> first >> deadline_ms) {
    const auto tokens = testing::make_tokens(testing::kLargePromptTokens, first);
    const auto blocks = testing::filled_blocks(*agent, tokens);
    TransferOptions options;
    options.deadline = std::chrono::milliseconds(deadline_ms);
    auto transfer = agent->transfer_with_insert("target", {content, tokens}, blocks, options);
    const Status status = transfer.ok() ? transfer->wait() : transfer.status();
    if (!agent->unpin(blocks).ok()) return 1;
    std::cout << status_code_name(status.code()) << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace mempool

int main(int arguments, char** words) {
  return arguments == 2 ? mempool::send_as_told(words[1]) : 2;
}
