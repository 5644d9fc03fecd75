// SPDX-License-Identifier: Apache-2.0
// Owns the processes of the latency measurement: an agent, its engine here, and the bare echoes.
#include "perf/latency_perf.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "agent/attach_frame.h"
#include "core/check.h"
#include "mempool/agent.h"
#include "mempool/attach.h"
#include "perf/child_process.h"
#include "perf/echo_process.h"

namespace mempool {
namespace {

constexpr uint32_t kPoolBlocks = 128;
constexpr uint32_t kWarmUp = 20;         // calls of each kind that are not counted
constexpr uint64_t kControlBytes = 256;  // about an offer's and a commit's frames for one block

AgentOptions latency_pool(const std::string& name, const std::string& transport) {
  AgentOptions options;
  options.name = name;
  options.transports = {transport};
  options.content.model = "perf-llama";  // Llama-3-8B's shape: 2 MiB a block
  options.content.layers = 32;
  options.content.kv_heads = 8;
  options.content.head_size = 128;
  options.segment_blocks = {kPoolBlocks};
  return options;
}

/// How long each of some calls took. Thread: confined.
class Samples {
 public:
  template <typename Call>
  Status take(const Call& call) {
    const Stopwatch watch;
    MEMPOOL_RETURN_IF_ERROR(call());
    samples_.push_back(watch.nanoseconds() * 1e-3);
    return {};
  }
  void forget() { samples_.clear(); }
  double percentile(double share) {
    std::ranges::sort(samples_);
    const auto at = static_cast<size_t>(share * static_cast<double>(samples_.size() - 1));
    return samples_[at];
  }

 private:
  std::vector<double> samples_;  // microseconds
};

/// Let two calls take turns, and fill in a row with their spreads.
template <typename Call, typename Bare>
Status compare(uint32_t repeat, const Call& call, const Bare& bare,
               const std::function<void(uint32_t)>& on_repeat, LatencyRow& row) {
  Samples calls;
  Samples bares;
  for (uint32_t i = 0; i < repeat + kWarmUp; ++i) {
    if (i == kWarmUp) calls.forget(), bares.forget();
    on_repeat(i < kWarmUp ? 0 : i - kWarmUp);
    MEMPOOL_RETURN_IF_ERROR(call(calls, i));
    MEMPOOL_RETURN_IF_ERROR(bares.take(bare));
  }
  row.call_p50_us = calls.percentile(0.5);
  row.call_p99_us = calls.percentile(0.99);
  row.bare_p50_us = bares.percentile(0.5);
  row.bare_p99_us = bares.percentile(0.99);
  return {};
}

Result<LatencyRow> measure_alloc(const LatencyCase& measured, Pool& engine, EchoProcess& echo,
                                 const std::function<void(uint32_t)>& on_repeat) {
  LatencyRow row;
  row.call = fmt::format("attached alloc of {} blocks", measured.blocks);
  AttachAnswer answer;
  answer.blocks.resize(measured.blocks, BlockAddress::make(1, 1, Medium::kHost, 1));
  row.request_bytes = encode_attach(AttachCall{.count = measured.blocks}).size();
  row.answer_bytes = encode_attach(answer).size();
  const auto call = [&](Samples& samples, uint32_t) -> Status {
    std::vector<BlockAddress> blocks;
    MEMPOOL_RETURN_IF_ERROR(samples.take([&]() -> Status {
      MEMPOOL_ASSIGN_OR_RETURN(blocks, engine.alloc(measured.blocks));
      return {};
    }));
    return engine.free(blocks);
  };
  const auto bare = [&] { return echo.round_trip(row.request_bytes, row.answer_bytes); };
  MEMPOOL_RETURN_IF_ERROR(compare(measured.repeat, call, bare, on_repeat, row));
  return row;
}

Result<LatencyRow> measure_transfer(const LatencyCase& measured, const std::string& target,
                                    EchoProcess& echo,
                                    const std::function<void(uint32_t)>& on_repeat) {
  AgentOptions options = latency_pool("source", measured.transport);
  options.peers["target"] = target;
  MEMPOOL_ASSIGN_OR_RETURN(const std::unique_ptr<Agent> agent, Agent::start(options));
  MEMPOOL_ASSIGN_OR_RETURN(const Content content, agent->content(options.content));
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<BlockAddress> blocks, agent->alloc(1));
  LatencyRow row;
  row.call = fmt::format("transfer_with_insert of 1 block, {}", measured.transport);
  row.request_bytes = agent->layout().block_bytes;
  row.answer_bytes = kControlBytes;
  const auto call = [&](Samples& samples, uint32_t i) -> Status {
    const std::vector<TokenId> tokens(options.content.tokens_per_block, i);
    return samples.take([&]() -> Status {
      MEMPOOL_ASSIGN_OR_RETURN(const Transfer transfer,
                               agent->transfer_with_insert("target", {content, tokens}, blocks));
      return transfer.wait();
    });
  };
  const auto bare = [&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(echo.round_trip(kControlBytes, kControlBytes));
    return echo.round_trip(row.request_bytes, row.answer_bytes);
  };
  MEMPOOL_RETURN_IF_ERROR(compare(measured.repeat, call, bare, on_repeat, row));
  return row;
}

/// The child: an agent whose engine is the parent, and to which the parent's agent sends.
void serve(const LatencyCase& measured, const std::string& socket, Channel& channel) {
  AgentOptions options = latency_pool("target", measured.transport);
  options.engine_socket = socket;
  options.deliver_arrivals = false;
  const Result<std::unique_ptr<Agent>> agent = Agent::start(options);
  const bool open = agent.ok();
  const Status said =
      channel.send({open, 0, open ? (*agent)->status().listen : agent.status().to_string()});
  if (open && said.ok()) (void)channel.receive();  // until the parent has what it wanted
}

}  // namespace

Result<std::vector<LatencyRow>> run_latency_perf(const LatencyCase& measured,
                                                 const std::function<void(uint32_t)>& on_repeat) {
  if (measured.repeat == 0 || measured.blocks == 0 || measured.blocks > kPoolBlocks) {
    return invalid_argument(fmt::format("give at least 1 repeat, and 1 to {} blocks", kPoolBlocks));
  }
  const std::string socket =
      std::filesystem::temp_directory_path() / fmt::format("mempool_perf_{}.sock", ::getpid());
  const CorePair cores = choose_cores();
  MEMPOOL_ASSIGN_OR_RETURN(EchoProcess local, EchoProcess::start(EchoOver::kUnix, cores.answerer));
  MEMPOOL_ASSIGN_OR_RETURN(EchoProcess remote, EchoProcess::start(EchoOver::kTcp, cores.answerer));
  MEMPOOL_ASSIGN_OR_RETURN(ToldProcess child, start_told([&](Channel& channel) {
                             const OnCore pinned(cores.answerer);
                             serve(measured, socket, channel);
                           }));
  const OnCore pinned(cores.caller);
  MEMPOOL_ASSIGN_OR_RETURN(const ChannelMessage ready, child.channel.receive());
  if (ready.kind == 0) return unavailable(ready.text);
  std::vector<LatencyRow> rows;
  {
    AttachOptions options;
    options.path = socket;
    const Result<std::unique_ptr<Pool>> engine = attach(options);
    std::error_code ignored;  // the child will be ended without a chance to clean up
    std::filesystem::remove(socket, ignored);
    std::filesystem::remove(socket + ".lock", ignored);
    if (!engine.ok()) return engine.status();
    MEMPOOL_ASSIGN_OR_RETURN(LatencyRow row, measure_alloc(measured, **engine, local, on_repeat));
    rows.push_back(std::move(row));
  }
  MEMPOOL_ASSIGN_OR_RETURN(LatencyRow row,
                           measure_transfer(measured, ready.text, remote, on_repeat));
  rows.push_back(std::move(row));
  return rows;
}

nlohmann::ordered_json to_json(const LatencyRow& row) {
  return {{"call", row.call},
          {"request_bytes", row.request_bytes},
          {"answer_bytes", row.answer_bytes},
          {"call_p50_us", row.call_p50_us},
          {"call_p99_us", row.call_p99_us},
          {"bare_p50_us", row.bare_p50_us},
          {"bare_p99_us", row.bare_p99_us}};
}

TextTable latency_table(const std::vector<LatencyRow>& rows) {
  TextTable table({"call", "p50 us", "p99 us", "bare p50", "bare p99", "ratio of p50"});
  for (const LatencyRow& row : rows) {
    table.add_row({row.call, fmt::format("{:.1f}", row.call_p50_us),
                   fmt::format("{:.1f}", row.call_p99_us), fmt::format("{:.1f}", row.bare_p50_us),
                   fmt::format("{:.1f}", row.bare_p99_us),
                   fmt::format("{:.2f}", row.call_p50_us / row.bare_p50_us)});
  }
  return table;
}

}  // namespace mempool
