// SPDX-License-Identifier: Apache-2.0
// Owns the steps of the prefill and the decode role, and their loop over the parent's messages.
#include "examples/demo/roles.h"

#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "core/check.h"
#include "core/log.h"
#include "examples/demo/json_pipe.h"

namespace mempool::demo {
namespace {

constexpr std::string_view kDecode = "decode";
constexpr std::chrono::seconds kArrivalTimeout{30};

template <typename Message>
Result<std::optional<Message>> read_message(JsonPipe& pipe) {
  MEMPOOL_ASSIGN_OR_RETURN(const std::optional<nlohmann::json> document, pipe.read());
  if (!document) return std::optional<Message>();
  try {
    return std::optional<Message>(document->get<Message>());
  } catch (const nlohmann::json::exception& error) {
    return corruption(error.what());
  }
}

template <typename Role>
Status serve_all(JsonPipe& pipe) {
  MEMPOOL_ASSIGN_OR_RETURN(const std::optional<Setup> setup, read_message<Setup>(pipe));
  if (!setup) return Status();
  MEMPOOL_ASSIGN_OR_RETURN(std::unique_ptr<EngineStandIn> engine, EngineStandIn::start(*setup));
  Role role(std::move(engine), *setup);
  MEMPOOL_RETURN_IF_ERROR(pipe.write(Ready{role.agent().status().listen}));
  for (;;) {
    MEMPOOL_ASSIGN_OR_RETURN(const std::optional<Work> work, read_message<Work>(pipe));
    if (!work) return role.agent().status().audit;
    auto answer = role.serve(*work);
    if (!answer.ok()) {
      return answer.status().with_context(fmt::format("request {}", work->request));
    }
    MEMPOOL_RETURN_IF_ERROR(pipe.write(*answer));
  }
}

}  // namespace

PrefillRole::PrefillRole(std::unique_ptr<EngineStandIn> engine, const Setup& setup)
    : engine_(std::move(engine)), corrupt_request_(setup.corrupt_request) {
  agent().add_peer(std::string(kDecode), setup.peer);
}

Result<Sent> PrefillRole::serve(const Work& work) {
  const Prompt prompt{engine_->content(), work.tokens};
  const size_t block_tokens = engine_->tokens_per_block();
  const size_t needed = (work.tokens.size() + block_tokens - 1) / block_tokens;
  MatchResult matched = agent().match(prompt);
  std::vector<BlockAddress> blocks = std::move(matched.blocks);
  const size_t first_missing = blocks.size();
  if (first_missing < needed) {
    MEMPOOL_ASSIGN_OR_RETURN(const std::vector<BlockAddress> missing,
                             agent().alloc(needed - first_missing));
    blocks.insert(blocks.end(), missing.begin(), missing.end());
    MEMPOOL_RETURN_IF_ERROR(engine_->fill(work.tokens, blocks, first_missing));
    if (work.request == corrupt_request_) {
      MEMPOOL_RETURN_IF_ERROR(flip_one_byte(blocks[first_missing]));
    }
  }
  const size_t whole = work.tokens.size() / block_tokens;
  const Result<InsertResult> inserted = agent().insert(prompt, std::span(blocks).first(whole));
  MEMPOOL_RETURN_IF_ERROR(inserted.status());
  MEMPOOL_ASSIGN_OR_RETURN(Sent sent, transfer(work, blocks));
  sent.tokens_matched = matched.tokens;
  MEMPOOL_RETURN_IF_ERROR(agent().unpin(blocks));
  return sent;
}

Result<Sent> PrefillRole::transfer(const Work& work, std::span<const BlockAddress> blocks) {
  const Prompt prompt{engine_->content(), work.tokens};
  TransferOptions options;
  options.request_id = work.request;
  const auto start = std::chrono::steady_clock::now();
  MEMPOOL_ASSIGN_OR_RETURN(
      const Transfer transfer,
      agent().transfer_with_insert(std::string(kDecode), prompt, blocks, options));
  MEMPOOL_RETURN_IF_ERROR(transfer.wait());
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  const TransferReport report = transfer.report();
  Sent sent;
  sent.bytes_moved = report.bytes;
  sent.bytes_saved = report.bytes_saved;
  sent.paper_calls = report.paper_calls;
  sent.run_pair_calls = report.run_pair_calls;
  sent.network_calls = report.network_calls;
  sent.system_calls = report.system_calls;
  sent.seconds = took.count();
  return sent;
}

Status PrefillRole::flip_one_byte(const BlockAddress& block) {
  const BlockLayout& layout = agent().layout();
  MEMPOOL_ASSIGN_OR_RETURN(const std::span<std::byte> piece,
                           agent().piece(block, layout.layers / 2, layout.parts - 1));
  piece.front() ^= std::byte{1};
  return Status();
}

Result<Checked> DecodeRole::serve(const Work& work) {
  MEMPOOL_ASSIGN_OR_RETURN(const Arrival arrival, agent().receive(kArrivalTimeout));
  if (arrival.request_id != work.request || arrival.tokens != work.tokens) {
    return corruption(fmt::format("request {} arrived, or other tokens", arrival.request_id));
  }
  const MatchResult matched = agent().match({arrival.content, arrival.tokens});
  const size_t whole = arrival.tokens.size() / engine_->tokens_per_block();
  if (!std::ranges::equal(matched.blocks, std::span(arrival.blocks).first(whole))) {
    return corruption(fmt::format("{} blocks match after {} whole ones arrived, or others",
                                  matched.blocks.size(), whole));
  }
  Checked checked;
  MEMPOOL_ASSIGN_OR_RETURN(checked.bytes, engine_->check(arrival.tokens, arrival.blocks));
  MEMPOOL_RETURN_IF_ERROR(agent().unpin(matched.blocks));
  MEMPOOL_RETURN_IF_ERROR(agent().unpin(arrival.blocks));
  return checked;
}

int run_role(const std::string& role) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // a parent that died before this closed the pipe
  prctl(PR_SET_NAME, role.c_str());  // or ps shows every role as "exe"
  configure_log(LogLevel::kWarning, LogFormat::kText);
  JsonPipe pipe(STDIN_FILENO, STDOUT_FILENO);
  const Status status =
      role == kDecode ? serve_all<DecodeRole>(pipe) : serve_all<PrefillRole>(pipe);
  if (status.ok()) return 0;
  // The parent says it to the user; when it is gone there is nobody to tell.
  const Status told = pipe.write(Failure{status.to_string()});
  return told.ok() ? 1 : 2;
}

}  // namespace mempool::demo
