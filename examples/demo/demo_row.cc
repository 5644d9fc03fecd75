// SPDX-License-Identifier: Apache-2.0
// Owns the course of a row: start both roles, hand them the requests, add up what they answer.
#include "examples/demo/demo_row.h"

#include <algorithm>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "core/check.h"
#include "core/config_value.h"
#include "core/random.h"
#include "examples/demo/messages.h"
#include "examples/demo/models.h"
#include "examples/demo/role_process.h"

namespace mempool::demo {
namespace {

/// The two processes of a row.
struct Pair {
  std::unique_ptr<RoleProcess> prefill;
  std::unique_ptr<RoleProcess> decode;
  std::string target;  // address of the decode agent
};

/// Start both at once: taking the memory is most of what a row costs.
Result<Pair> start_pair(const RowSpec& spec, uint32_t kv_blocks) {
  Setup setup;
  setup.token = fmt::format("{:016x}{:016x}", random_word(), random_word());
  setup.transport = spec.transport;
  setup.mode = spec.mode;
  setup.model = spec.model;
  setup.placement = spec.placement;
  setup.memory = spec.memory;
  setup.kv_blocks = kv_blocks;
  Pair pair;
  setup.name = "decode";
  setup.transport_options = spec.decode;
  MEMPOOL_ASSIGN_OR_RETURN(pair.decode, RoleProcess::start(setup.name));
  MEMPOOL_RETURN_IF_ERROR(pair.decode->tell(setup));
  setup.name = "prefill";
  setup.transport_options = spec.prefill;
  setup.corrupt_request = spec.corrupt_request;
  MEMPOOL_ASSIGN_OR_RETURN(pair.prefill, RoleProcess::start(setup.name));
  MEMPOOL_RETURN_IF_ERROR(pair.prefill->tell(setup));
  MEMPOOL_ASSIGN_OR_RETURN(const Ready ready, pair.decode->hear<Ready>());
  MEMPOOL_RETURN_IF_ERROR(pair.prefill->hear<Ready>().status());
  pair.target = ready.address;
  return pair;
}

void add(const Sent& sent, RowResult& row) {
  row.tokens_matched += sent.tokens_matched;
  row.bytes_moved += sent.bytes_moved;
  row.bytes_saved += sent.bytes_saved;
  row.paper_calls += sent.paper_calls;
  row.run_pair_calls += sent.run_pair_calls;
  row.network_calls += sent.network_calls;
  if (!sent.system_calls) row.system_calls.reset();
  if (row.system_calls) *row.system_calls += *sent.system_calls;
  row.seconds += sent.seconds;
  row.latencies_ms.push_back(sent.latency_seconds * 1e3);
}

/// Send one request through both roles. Errors: what a role says; kCorruption when fewer bytes were
/// compared than the prompt's KV has.
Status run_request(Pair& pair, Work work, uint64_t token_bytes, RowResult& row) {
  if (row.memory == "engine") {
    work.claim = true;
    MEMPOOL_ASSIGN_OR_RETURN(Places places, pair.decode->ask<Places>(work));
    work.claim = false;
    work.places = std::move(places.blocks);
  }
  MEMPOOL_ASSIGN_OR_RETURN(const Sent sent, pair.prefill->ask<Sent>(work));
  MEMPOOL_ASSIGN_OR_RETURN(const Checked checked, pair.decode->ask<Checked>(work));
  if (checked.bytes != work.tokens.size() * token_bytes) {
    return corruption(fmt::format("request {}: {} bytes were compared, its KV has {}", work.request,
                                  checked.bytes, work.tokens.size() * token_bytes));
  }
  add(sent, row);
  ++row.requests;
  row.tokens += work.tokens.size();
  return Status();
}

Status run(const RowSpec& spec, std::span<const std::vector<TokenId>> prompts, Progress& progress,
           RowResult& row) {
  const ContentSpec& content = model(spec.model);
  MEMPOOL_ASSIGN_OR_RETURN(const BlockLayout one, make_layout(content, Placement(), 1));
  const uint64_t kv_blocks =
      std::min<uint64_t>(spec.pool_bytes / one.block_bytes, BlockAddress::kIndexMax);
  const uint64_t room = kv_blocks * content.tokens_per_block;
  const auto fits = [&](const std::vector<TokenId>& prompt) { return prompt.size() <= room; };
  if (std::none_of(prompts.begin(), prompts.end(), fits)) {
    return invalid_argument(fmt::format(
        "no prompt fits a pool of {}, which holds {} tokens of {}: give a larger --pool-bytes",
        print_size(spec.pool_bytes), room, spec.model));
  }
  MEMPOOL_ASSIGN_OR_RETURN(Pair pair, start_pair(spec, static_cast<uint32_t>(kv_blocks)));
  const uint64_t token_bytes = one.block_bytes / content.tokens_per_block;
  for (size_t i = 0; i < prompts.size() && row.bytes_moved < spec.move_bytes; ++i) {
    if (!fits(prompts[i])) {
      ++row.skipped;
      continue;
    }
    MEMPOOL_RETURN_IF_ERROR(run_request(pair, {i + 1, pair.target, prompts[i]}, token_bytes, row));
    const double moved =
        static_cast<double>(row.bytes_moved) / static_cast<double>(spec.move_bytes);
    const double served = static_cast<double>(i + 1) / static_cast<double>(prompts.size());
    progress.show(std::max(moved, served), row.requests, row.bytes_moved);
  }
  MEMPOOL_RETURN_IF_ERROR(pair.prefill->finish());
  return pair.decode->finish();
}

}  // namespace

double RowResult::hit_ratio() const {
  return tokens == 0 ? 0 : static_cast<double>(tokens_matched) / static_cast<double>(tokens);
}

double RowResult::gb_per_s() const {
  return seconds == 0 ? 0 : static_cast<double>(bytes_moved) / seconds / 1e9;
}

std::string name_of(const RowResult& row) {
  return fmt::format("{} {} {} {}", row.model, row.transport, row.mode, row.placement);
}

RowOutcome run_row(const RowSpec& spec, std::span<const std::vector<TokenId>> prompts,
                   Progress& progress) {
  RowOutcome outcome;
  outcome.row.model = spec.model;
  outcome.row.transport = spec.transport;
  outcome.row.mode = spec.mode;
  outcome.row.placement = spec.placement;
  outcome.row.memory = spec.memory;
  progress.begin(name_of(outcome.row));
  outcome.status = run(spec, prompts, progress, outcome.row);
  if (outcome.status.code() == StatusCode::kUnsupported) {
    outcome.row.refused = outcome.status.message();
    outcome.status = Status();
  }
  outcome.row.verified = outcome.status.ok() && outcome.row.requests > 0;
  progress.end();
  return outcome;
}

}  // namespace mempool::demo
