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

/// A transport that cannot open or connect is unavailable before anything moved; that later means a
/// peer that was lost.
Status as_refusal(const Status& status) {
  if (status.code() != StatusCode::kUnavailable) return status;
  return unsupported(std::string(status.message()));
}

template <typename Role>
Status serve_all(JsonPipe& pipe) {
  MEMPOOL_ASSIGN_OR_RETURN(const std::optional<Setup> setup, read_message<Setup>(pipe));
  if (!setup) return Status();
  Result<std::unique_ptr<EngineStandIn>> engine = EngineStandIn::start(*setup);
  MEMPOOL_RETURN_IF_ERROR(as_refusal(engine.status()));
  Role role(*std::move(engine), *setup);
  MEMPOOL_RETURN_IF_ERROR(pipe.write(Ready{role.engine().agent().status().listen}));
  for (;;) {
    MEMPOOL_ASSIGN_OR_RETURN(const std::optional<Work> work, read_message<Work>(pipe));
    if (!work) return role.engine().end();
    auto answer = role.serve(*work);
    if (!answer.ok()) {
      return answer.status().with_context(fmt::format("request {}", work->request));
    }
    MEMPOOL_RETURN_IF_ERROR(pipe.write(*answer));
  }
}

}  // namespace

struct PrefillRole::Job {
  const Work& work;
  Prompt prompt;
  std::vector<uint64_t> prefixes;
  std::vector<BlockAddress> blocks;
  size_t tokens_matched = 0;
  size_t first_missing = 0;  // of the blocks, to be filled from here on
};

PrefillRole::PrefillRole(std::unique_ptr<EngineStandIn> engine, const Setup& setup)
    : engine_(std::move(engine)),
      mode_(setup.mode == "by_layer" ? TransferMode::kByLayer : TransferMode::kByRequest),
      corrupt_request_(setup.corrupt_request) {}

Result<Sent> PrefillRole::serve(const Work& work) {
  if (!connected_) agent().add_peer(std::string(kDecode), work.target);
  MEMPOOL_ASSIGN_OR_RETURN(const Job job, begin(work));
  const bool sends = !work.places || !work.places->empty();
  const bool by_layer = sends && mode_ == TransferMode::kByLayer;
  if (!by_layer) {
    MEMPOOL_RETURN_IF_ERROR(fill(job));
    MEMPOOL_RETURN_IF_ERROR(insert(job));
  }
  Sent sent;
  if (sends) {
    MEMPOOL_ASSIGN_OR_RETURN(sent, transfer(job));
  }
  if (by_layer) MEMPOOL_RETURN_IF_ERROR(insert(job));
  MEMPOOL_RETURN_IF_ERROR(engine_->memory().let_go(job.blocks));
  sent.tokens_matched = job.tokens_matched;
  if (work.places) {
    sent.bytes_saved = (job.blocks.size() - work.places->size()) * agent().layout().block_bytes;
  }
  return sent;
}

Result<PrefillRole::Job> PrefillRole::begin(const Work& work) {
  Job job{work, {engine_->content(), work.tokens}, engine_->prefixes(work.tokens), {}, 0, 0};
  MatchResult matched = agent().match(job.prompt);
  job.tokens_matched = matched.tokens;
  job.first_missing = matched.blocks.size();
  job.blocks = std::move(matched.blocks);
  MEMPOOL_RETURN_IF_ERROR(
      engine_->memory().extend(job.blocks, engine_->all_blocks(work.tokens.size())));
  return job;
}

Status PrefillRole::fill_layer(const Job& job, uint32_t layer) {
  MEMPOOL_RETURN_IF_ERROR(engine_->fill_layer(job.prefixes, job.blocks, job.first_missing, layer));
  const bool corrupt = job.work.request == corrupt_request_ && layer == corrupt_layer();
  if (!corrupt || job.first_missing == job.blocks.size()) return Status();
  return flip_one_byte(job.blocks[job.first_missing]);
}

Status PrefillRole::fill(const Job& job) {
  for (uint32_t layer = 0; layer < agent().layout().layers; ++layer) {
    MEMPOOL_RETURN_IF_ERROR(fill_layer(job, layer));
  }
  return Status();
}

Status PrefillRole::insert(const Job& job) {
  const size_t whole = engine_->whole_blocks(job.work.tokens.size());
  return agent().insert(job.prompt, std::span(job.blocks).first(whole)).status();
}

Result<Transfer> PrefillRole::begin_transfer(const Job& job) {
  const std::string target(kDecode);
  TransferOptions options;
  options.mode = mode_;
  options.request_id = job.work.request;
  if (!job.work.places) {
    return agent().transfer_with_insert(target, job.prompt, job.blocks, options);
  }
  const std::span<const BlockAddress> places = *job.work.places;
  if (places.size() > job.blocks.size()) {
    return corruption(fmt::format("{} places for {} blocks", places.size(), job.blocks.size()));
  }
  return agent().transfer(target, std::span(job.blocks).last(places.size()), places, options);
}

Result<Sent> PrefillRole::transfer(const Job& job) {
  const TimePoint start = std::chrono::steady_clock::now();
  MEMPOOL_ASSIGN_OR_RETURN(Transfer transfer, begin_transfer(job));
  TimePoint ready = start;
  if (mode_ == TransferMode::kByLayer) {
    MEMPOOL_ASSIGN_OR_RETURN(ready, send_layers(job, transfer));
  }
  const Status status = transfer.wait();
  const TimePoint end = std::chrono::steady_clock::now();
  MEMPOOL_RETURN_IF_ERROR(connected_ ? status : as_refusal(status));
  connected_ = true;
  const TransferReport report = transfer.report();
  Sent sent;
  sent.bytes_moved = report.bytes;
  sent.bytes_saved = report.bytes_saved;
  sent.paper_calls = report.paper_calls;
  sent.run_pair_calls = report.run_pair_calls;
  sent.network_calls = report.network_calls;
  sent.system_calls = report.system_calls;
  sent.seconds = std::chrono::duration<double>(end - start).count();
  sent.latency_seconds = std::chrono::duration<double>(end - ready).count();
  return sent;
}

Result<TimePoint> PrefillRole::send_layers(const Job& job, Transfer& transfer) {
  TimePoint made;
  Status handed;
  for (uint32_t layer = 0; layer < agent().layout().layers && handed.ok(); ++layer) {
    MEMPOOL_RETURN_IF_ERROR(fill_layer(job, layer));
    made = std::chrono::steady_clock::now();
    handed = transfer.send_layers(layer, 1);
  }
  if (handed.ok()) handed = transfer.commit();
  if (handed.code() != StatusCode::kUnavailable) MEMPOOL_RETURN_IF_ERROR(handed);
  return made;  // where the transfer has ended early, its wait() tells how
}

uint32_t PrefillRole::corrupt_layer() {
  return agent().layout().layers / 2;
}

Status PrefillRole::flip_one_byte(const BlockAddress& block) {
  const BlockLayout& layout = agent().layout();
  MEMPOOL_ASSIGN_OR_RETURN(std::byte* const piece,
                           engine_->memory().piece(block, corrupt_layer(), layout.parts - 1));
  *piece ^= std::byte{1};
  return Status();
}

Result<nlohmann::json> DecodeRole::serve(const Work& work) {
  if (work.claim) {
    MEMPOOL_ASSIGN_OR_RETURN(const Places places, claim(work));
    return nlohmann::json(places);
  }
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<BlockAddress> blocks, receive(work));
  MEMPOOL_ASSIGN_OR_RETURN(const Checked checked, check(work, blocks));
  MEMPOOL_RETURN_IF_ERROR(engine_->memory().let_go(blocks));
  return nlohmann::json(checked);
}

Result<Places> DecodeRole::claim(const Work& work) {
  claimed_ = agent().match({engine_->content(), work.tokens}).blocks;
  const size_t held = claimed_.size();
  MEMPOOL_RETURN_IF_ERROR(
      engine_->memory().extend(claimed_, engine_->all_blocks(work.tokens.size())));
  const auto places = std::span(claimed_).subspan(held);
  return Places{{places.begin(), places.end()}};
}

Result<std::vector<BlockAddress>> DecodeRole::receive(const Work& work) {
  if (work.places && work.places->empty()) return claimed_;
  MEMPOOL_ASSIGN_OR_RETURN(const Arrival arrival, agent().receive(kArrivalTimeout));
  const bool right = work.places ? arrival.blocks == *work.places : arrival.tokens == work.tokens;
  if (arrival.request_id != work.request || !right) {
    return corruption(fmt::format("request {} arrived, or other {}", arrival.request_id,
                                  work.places ? "places" : "tokens"));
  }
  return work.places ? claimed_ : arrival.blocks;
}

Result<Checked> DecodeRole::check(const Work& work, std::span<const BlockAddress> blocks) {
  Checked checked;
  MEMPOOL_ASSIGN_OR_RETURN(checked.bytes, engine_->check(work.tokens, blocks));
  const Prompt prompt{engine_->content(), work.tokens};
  const auto whole = blocks.first(engine_->whole_blocks(work.tokens.size()));
  if (work.places) MEMPOOL_RETURN_IF_ERROR(agent().insert(prompt, whole).status());
  const MatchResult matched = agent().match(prompt);
  if (!std::ranges::equal(matched.blocks, whole)) {
    return corruption(fmt::format("{} blocks match after {} whole ones arrived, or others",
                                  matched.blocks.size(), whole.size()));
  }
  MEMPOOL_RETURN_IF_ERROR(agent().unpin(matched.blocks));
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
  const bool refused = status.code() == StatusCode::kUnsupported;
  const Status told =
      pipe.write(Failure{refused ? std::string(status.message()) : status.to_string(), refused});
  return told.ok() ? 1 : 2;
}

}  // namespace mempool::demo
