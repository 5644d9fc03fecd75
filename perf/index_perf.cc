// SPDX-License-Identifier: Apache-2.0
// Owns the loops over insert and match, through an Agent that talks to nobody.
#include "perf/index_perf.h"

#include <memory>
#include <vector>

#include <fmt/format.h>

#include "core/check.h"
#include "perf/index_workload.h"
#include "perf/small_pool.h"

namespace mempool {
namespace {

constexpr double kTokensOfReport = 4096;

using Prompts = std::vector<std::vector<TokenId>>;

struct Pass {
  double insert_ns = 0;
  double match_ns = 0;
  double unpin_ns = 0;
};

/// Insert as an engine does: blocks that match gave, then new ones. Only insert is timed.
Result<double> time_inserts(Agent& agent, const Content& content, const Prompts& prompts) {
  const size_t block_tokens = agent.layout().tokens;
  double total_ns = 0;
  for (const std::vector<TokenId>& tokens : prompts) {
    const Prompt prompt{content, tokens};
    std::vector<BlockAddress> blocks = agent.match(prompt).blocks;
    MEMPOOL_ASSIGN_OR_RETURN(const std::vector<BlockAddress> fresh,
                             agent.alloc(tokens.size() / block_tokens - blocks.size()));
    blocks.insert(blocks.end(), fresh.begin(), fresh.end());
    const Stopwatch watch;
    const Result<InsertResult> inserted = agent.insert(prompt, blocks);
    total_ns += watch.nanoseconds();
    MEMPOOL_RETURN_IF_ERROR(inserted.status());
    MEMPOOL_RETURN_IF_ERROR(agent.unpin(blocks));
  }
  return total_ns;
}

Status time_matches(Agent& agent, const Content& content, const Prompts& prompts, Pass& pass) {
  const size_t block_tokens = agent.layout().tokens;
  for (const std::vector<TokenId>& tokens : prompts) {
    const Stopwatch match;
    const MatchResult found = agent.match({content, tokens});
    pass.match_ns += match.nanoseconds();
    if (found.tokens != tokens.size() / block_tokens * block_tokens) {
      return internal_error(fmt::format("a prompt of {} tokens was inserted, {} are matched",
                                        tokens.size(), found.tokens));
    }
    const Stopwatch unpin;
    MEMPOOL_RETURN_IF_ERROR(agent.unpin(found.blocks));
    pass.unpin_ns += unpin.nanoseconds();
  }
  return Status();
}

Result<Pass> measure_once(Agent& agent, const Prompts& prompts) {
  MEMPOOL_ASSIGN_OR_RETURN(const Content content, agent.content(small_pool(1).content));
  Pass pass;
  MEMPOOL_ASSIGN_OR_RETURN(pass.insert_ns, time_inserts(agent, content, prompts));
  MEMPOOL_RETURN_IF_ERROR(time_matches(agent, content, prompts, pass));
  return pass;
}

}  // namespace

Result<IndexPerfResult> run_index_perf(const IndexPerfOptions& options) {
  if (options.sequences == 0 || options.repeat == 0) {
    return invalid_argument("give at least 1 sequence and at least 1 repeat");
  }
  const Prompts prompts = make_index_workload(options.sequences, options.seed);
  IndexPerfResult result;
  const size_t block_tokens = small_pool(1).content.tokens_per_block;
  for (const std::vector<TokenId>& tokens : prompts) result.blocks += tokens.size() / block_tokens;
  result.tokens = result.blocks * block_tokens;
  const double us_per_report = 1e-3 * kTokensOfReport / static_cast<double>(result.tokens);
  std::vector<double> inserts, matches, unpins;
  for (uint32_t i = 0; i < options.repeat; ++i) {
    MEMPOOL_ASSIGN_OR_RETURN(
        const std::unique_ptr<Agent> agent,
        Agent::start(small_pool(static_cast<uint32_t>(result.blocks), options.verify)));
    MEMPOOL_ASSIGN_OR_RETURN(const Pass pass, measure_once(*agent, prompts));
    inserts.push_back(pass.insert_ns * us_per_report);
    matches.push_back(pass.match_ns * us_per_report);
    unpins.push_back(pass.unpin_ns * us_per_report);
    const AgentStatus status = agent->status();
    MEMPOOL_RETURN_IF_ERROR(status.audit);
    result.unique_blocks = status.index_blocks;
    result.index_bytes_per_block =
        static_cast<double>(status.index_bytes) / static_cast<double>(status.index_blocks);
  }
  result.insert_us = spread_of(inserts);
  result.match_us = spread_of(matches);
  result.unpin_us = spread_of(unpins);
  return result;
}

}  // namespace mempool
