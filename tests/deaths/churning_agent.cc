// SPDX-License-Identifier: Apache-2.0
// Owns a process with an agent that calls its peers at random, looks at every byte that it is
// given, and aborts when one is wrong or a call ends in a way that no caller should meet.
//
//   churning_agent NAME LISTEN SEED TRANSPORT...    says the address it listens on, then obeys:
//   peer NAME ADDRESS    call that one, too, from now on
//   report               answers with the calls that have ended well
//   rest                 begin no calls any more; answers when none is open
//   state                answers with the blocks that are neither free nor published, and the pins
//   use                  answers with threads, descriptors, and KiB of private and of shared memory
#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <random>
#include <sstream>
#include <string>

#include "core/log.h"
#include "tests/agent/agent_pair.h"

namespace mempool {
namespace {

using namespace std::chrono_literals;

constexpr auto kPace =
    20ms;  // between two calls, when nothing arrives: 64 agents share the machine
constexpr uint32_t kPrompts = 200;
constexpr uint32_t kPromptBlocksMost = 8;

/// 16 KiB a block.
ContentSpec churn_spec() {
  ContentSpec spec = testing::small_spec();
  spec.layers = 4;
  spec.kv_heads = 4;
  spec.head_size = 64;
  return spec;
}

AgentOptions churn_options(const std::string& name, const std::string& listen) {
  AgentOptions options;
  options.name = name;
  options.listen = listen;
  options.content = churn_spec();
  options.segment_blocks = {128};
  options.verify = "off";  // every byte is looked at here
  options.heartbeat = 2000ms;
  options.peer_timeout = 20s;
  options.retransmit = 500ms;
  options.max_connections = 16;  // of 63 peers, which so come and go among the deaths
  return options;
}

[[noreturn]] void give_up(const std::string& why) {
  std::cerr << "churning_agent: " << why << std::endl;
  std::abort();
}

/// A line of /proc/self/status, as a number.
uint64_t process_number(const std::string& name) {
  std::ifstream lines("/proc/self/status");
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name + ":")) return std::stoull(line.substr(name.size() + 1));
  }
  give_up("no " + name + " in /proc/self/status");
}

/// Thread: confined.
class ChurningAgent {
 public:
  ChurningAgent(std::unique_ptr<Agent> agent, uint32_t seed)
      : agent_(std::move(agent)), random_(seed) {}

  void obey(const std::string& line) {
    std::istringstream words(line);
    std::string order;
    words >> order;
    if (order == "peer") {
      std::string name;
      std::string address;
      words >> name >> address;
      agent_->add_peer(name, address);
      peers_.push_back(name);
    } else if (order == "report") {
      std::cout << good_ << std::endl;
    } else if (order == "rest") {
      peers_.clear();
      std::cout << "OK" << std::endl;
    } else if (order == "state") {
      say_state();
    } else if (order == "use") {
      const auto descriptors = std::filesystem::directory_iterator("/proc/self/fd");
      std::cout << process_number("Threads") << " "
                << std::distance(begin(descriptors), end(descriptors)) << " "
                << process_number("RssAnon") << " " << process_number("RssShmem") << std::endl;
    } else {
      give_up("'" + line + "' is no order");
    }
  }

  /// Look at what has arrived.
  void take_arrivals() {
    while (true) {
      const auto arrival = agent_->receive(kPace);
      if (!arrival.ok()) return;
      look_at(arrival->blocks, arrival->tokens, "an arrival");
    }
  }

  void call_somebody() {
    if (peers_.empty()) return;
    const std::string& peer = peers_[random_() % peers_.size()];
    const TokenId first = 1000 * (random_() % kPrompts);
    const auto tokens = testing::make_tokens(4 + random_() % (4 * kPromptBlocksMost), first);
    const auto deadline = random_() % 8 == 0 ? 3ms : 30000ms;
    switch (random_() % 4) {
      case 0:
        return send(peer, tokens, {.deadline = deadline});
      case 1:
        return send(peer, tokens, {.mode = TransferMode::kByLayer, .deadline = deadline});
      case 2:
        return fetch(peer, tokens, {.deadline = deadline});
      default:
        const MatchResult found = agent_->match({content_, tokens});
        look_at(found.blocks, tokens, "a match");
    }
  }

 private:
  void say_state() {
    const AgentStatus status = agent_->status();
    if (!status.audit.ok()) give_up(status.audit.to_string());
    const uint64_t settled = status.blocks.at("free") + status.blocks.at("published");
    std::cout << status.total - settled << " " << status.pins << std::endl;
  }

  /// Look at every byte of pinned blocks, and let go of them.
  void look_at(std::span<const BlockAddress> blocks, std::span<const TokenId> tokens,
               const std::string& what) {
    if (!testing::hold(*agent_, blocks, tokens)) give_up("wrong bytes in " + what);
    const Status unpinned = agent_->unpin(blocks);
    if (!unpinned.ok()) give_up(unpinned.to_string());
  }

  /// Whether it went well; what is not worth another try is a defect.
  bool went_well(const Status& ended) {
    switch (ended.code()) {
      case StatusCode::kOk:
        ++good_;
        return true;
      case StatusCode::kUnavailable:
      case StatusCode::kResourceExhausted:
      case StatusCode::kDeadlineExceeded:
      case StatusCode::kCancelled:
        return false;
      default:
        give_up("a call ended with " + ended.to_string());
    }
  }

  void send(const std::string& peer, std::span<const TokenId> tokens, TransferOptions options) {
    const size_t count = (tokens.size() + 3) / 4;
    const auto blocks = agent_->alloc(count);
    if (!blocks.ok()) return void(went_well(blocks.status()));  // arrivals may have it all
    for (size_t i = 0; i < count; ++i) testing::fill(*agent_, (*blocks)[i], tokens[4 * i]);
    auto sent = agent_->transfer_with_insert(peer, {content_, {tokens.begin(), tokens.end()}},
                                             *blocks, options);
    if (sent.ok() && options.mode == TransferMode::kByLayer) hand_over(*sent);
    if (sent.ok() && random_() % 8 == 0) sent->cancel();
    went_well(sent.ok() ? sent->wait() : sent.status());
    const Status unpinned = agent_->unpin(*blocks);
    if (!unpinned.ok()) give_up(unpinned.to_string());
  }

  void hand_over(Transfer& transfer) {
    for (uint32_t layer = 0; layer < churn_spec().layers; ++layer) {
      if (!transfer.send_layers(layer, 1).ok()) return;  // it has ended
    }
    if (const Status late = transfer.commit(); !late.ok()) went_well(late);
  }

  void fetch(const std::string& peer, std::span<const TokenId> tokens, TransferOptions options) {
    const auto fetched = agent_->fetch(peer, {content_, {tokens.begin(), tokens.end()}}, options);
    if (!went_well(fetched.ok() ? fetched->wait() : fetched.status())) return;
    look_at(fetched->report().serving, tokens, "a fetch");
  }

  const Content content_ = *make_content(churn_spec());
  std::unique_ptr<Agent> agent_;
  std::mt19937 random_;
  std::vector<std::string> peers_;
  uint64_t good_ = 0;
};

int churn(const AgentOptions& options, uint32_t seed) {
  std::ios::sync_with_stdio(false);  // or in_avail() knows of no line
  configure_log(LogLevel::kError, LogFormat::kText);
  auto agent = testing::start_agent(options);
  if (agent == nullptr) return 1;
  std::cout << agent->status().listen << std::endl;
  ChurningAgent churning(std::move(agent), seed);
  while (true) {
    pollfd readable{STDIN_FILENO, POLLIN, 0};
    while (std::cin.rdbuf()->in_avail() > 0 || ::poll(&readable, 1, 0) == 1) {
      std::string line;
      if (!std::getline(std::cin, line)) return 0;
      churning.obey(line);
    }
    churning.take_arrivals();
    churning.call_somebody();
  }
}

}  // namespace
}  // namespace mempool

int main(int count, char** words) {
  if (count < 5) return 2;
  mempool::AgentOptions options = mempool::churn_options(words[1], words[2]);
  options.transports.assign(words + 4, words + count);
  return mempool::churn(options, static_cast<uint32_t>(std::atoi(words[3])));
}
