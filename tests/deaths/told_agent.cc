// SPDX-License-Identifier: Apache-2.0
// Owns a process with an agent that does what it is told, until it is stopped or killed: an order a
// line comes in, an answer a line goes out.
//
//   told_agent NAME TRANSPORT LISTEN [TRANSPORT.KEY=VALUE...]   answers first with the address it
//                                         listens on
//   peer NAME ADDRESS                     OK
//   send PEER FIRST DEADLINE_MS           how the transfer of the prompt that begins with the token
//                                         FIRST ended
//   begin PEER FIRST LAYERS               OK; by layer, with that many layers handed over
//   commit                                how it ended, after the rest of the layers
//   take FIRST                            OK when that prompt arrives, or has, with the right bytes
//   fetch PEER FIRST DEADLINE_MS          OK when that prompt is here then, with the right bytes
//   settle                                OK when all that has arrived had the right bytes, and
//                                         nothing is published any more
//   match FIRST                           tokens of that prompt that are found with the right bytes
//   read INCARNATION GENERATION PLACE     how the read of that address ended
//   count STATE                           blocks in that state
#include <iostream>
#include <optional>
#include <sstream>
#include <string>

#include "tests/agent/agent_pair.h"
#include "tests/deaths/large_kv.h"

namespace mempool {
namespace {

using namespace std::chrono_literals;

std::string name_of(const Status& status) {
  return std::string(status_code_name(status.code()));
}

std::vector<TokenId> next_prompt(std::istream& words) {
  TokenId first = 0;
  words >> first;
  return testing::make_tokens(testing::kLargePromptTokens, first);
}

/// Carries out one order at a time. Thread: confined.
class ToldAgent {
 public:
  explicit ToldAgent(std::unique_ptr<Agent> agent) : agent_(std::move(agent)) {}

  std::string obey(std::istream& words) {
    std::string order;
    words >> order;
    if (order == "peer") return peer(words);
    if (order == "send") return send(words);
    if (order == "begin") return begin(words);
    if (order == "commit") return commit();
    if (order == "take") return take(words);
    if (order == "fetch") return fetch(words);
    if (order == "settle") return settle();
    if (order == "match") return match(words);
    if (order == "read") return read(words);
    if (order == "count") return count(words);
    return "'" + order + "' is no order";
  }

 private:
  std::string peer(std::istream& words) {
    std::string name;
    std::string address;
    words >> name >> address;
    agent_->add_peer(name, address);
    return "OK";
  }

  std::string send(std::istream& words) {
    std::string target;
    words >> target;
    const std::vector<TokenId> tokens = next_prompt(words);
    int64_t deadline_ms = 0;
    words >> deadline_ms;
    TransferOptions options;
    options.deadline = std::chrono::milliseconds(deadline_ms);
    const std::vector<BlockAddress> blocks = testing::filled_blocks(*agent_, tokens);
    auto sent = agent_->transfer_with_insert(target, {content_, tokens}, blocks, options);
    const Status ended = sent.ok() ? sent->wait() : sent.status();
    const Status unpinned = agent_->unpin(blocks);
    return unpinned.ok() ? name_of(ended) : unpinned.to_string();
  }

  std::string begin(std::istream& words) {
    std::string target;
    words >> target;
    const std::vector<TokenId> tokens = next_prompt(words);
    words >> handed_;
    begun_blocks_ = testing::filled_blocks(*agent_, tokens);
    auto begun = agent_->transfer_with_insert(target, {content_, tokens}, begun_blocks_,
                                              {.mode = TransferMode::kByLayer});
    if (!begun.ok()) return name_of(begun.status());
    begun_ = *begun;
    return name_of(begun_->send_layers(0, handed_));
  }

  std::string commit() {
    const uint32_t rest = agent_->layout().layers - handed_;
    Status status = rest == 0 ? Status() : begun_->send_layers(handed_, rest);
    if (status.ok()) status = begun_->commit();
    if (status.ok()) status = begun_->wait();
    const Status unpinned = agent_->unpin(begun_blocks_);
    return unpinned.ok() ? name_of(status) : unpinned.to_string();
  }

  std::string take(std::istream& words) {
    const std::vector<TokenId> tokens = next_prompt(words);
    const auto arrival = agent_->receive(30s);
    if (!arrival.ok()) return name_of(arrival.status());
    const bool right = arrival->tokens == tokens && testing::hold(*agent_, arrival->blocks, tokens);
    const Status unpinned = agent_->unpin(arrival->blocks);
    return right ? name_of(unpinned) : "WRONG BYTES";
  }

  std::string fetch(std::istream& words) {
    std::string source;
    words >> source;
    const std::vector<TokenId> tokens = next_prompt(words);
    int64_t deadline_ms = 0;
    words >> deadline_ms;
    TransferOptions options;
    options.deadline = std::chrono::milliseconds(deadline_ms);
    auto fetched = agent_->fetch(source, {content_, tokens}, options);
    const Status ended = fetched.ok() ? fetched->wait() : fetched.status();
    if (!ended.ok()) return name_of(ended);
    const std::vector<BlockAddress> blocks = fetched->report().serving;
    if (!testing::hold(*agent_, blocks, tokens)) return "WRONG BYTES";
    const Status unpinned = agent_->unpin(blocks);
    agent_->erase({content_, std::span(tokens).first(block_tokens())});
    if (!unpinned.ok()) return unpinned.to_string();
    return blocks.size() * block_tokens() == tokens.size() ? "OK" : "NOT ALL";
  }

  std::string settle() {
    while (true) {
      const auto arrival = agent_->receive(0ms);
      if (!arrival.ok()) return "OK";
      if (!testing::hold(*agent_, arrival->blocks, arrival->tokens)) return "WRONG BYTES";
      const Status unpinned = agent_->unpin(arrival->blocks);
      if (!unpinned.ok()) return unpinned.to_string();
      agent_->erase({content_, std::span(arrival->tokens).first(block_tokens())});
    }
  }

  std::string match(std::istream& words) {
    const std::vector<TokenId> tokens = next_prompt(words);
    const MatchResult found = agent_->match({content_, tokens});
    const bool right = testing::hold(*agent_, found.blocks, tokens);
    const Status unpinned = agent_->unpin(found.blocks);
    return right && unpinned.ok() ? std::to_string(found.tokens) : "WRONG BYTES";
  }

  std::string read(std::istream& words) {
    BlockAddress address;
    words >> address.incarnation >> address.generation >> address.place;
    std::vector<std::byte> out(agent_->layout().block_bytes);
    return name_of(agent_->read(address, out));
  }

  std::string count(std::istream& words) {
    std::string state;
    words >> state;
    const AgentStatus status = agent_->status();
    return status.audit.ok() ? std::to_string(status.blocks.at(state)) : status.audit.to_string();
  }

  size_t block_tokens() const { return agent_->layout().tokens; }

  const Content content_ = *make_content(testing::large_spec());
  std::unique_ptr<Agent> agent_;
  std::optional<Transfer> begun_;
  std::vector<BlockAddress> begun_blocks_;
  uint32_t handed_ = 0;
};

int obey_all(AgentOptions options, const std::string& listen) {
  options.listen = listen;
  auto agent = testing::start_agent(options);
  if (agent == nullptr) return 1;
  std::cout << agent->status().listen << std::endl;
  ToldAgent told(std::move(agent));
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::cout << told.obey(words) << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace mempool

int main(int count, char** words) {
  if (count < 4) return 2;
  mempool::AgentOptions options = mempool::testing::large_options(words[1], words[2]);
  for (int at = 4; at < count; ++at) {
    const std::string_view option = words[at];
    const size_t equal = option.find('=');
    if (equal == std::string_view::npos) return 2;
    options.transport_options[std::string(option.substr(0, equal))] = option.substr(equal + 1);
  }
  return mempool::obey_all(options, words[3]);
}
