// SPDX-License-Identifier: Apache-2.0
// Owns the loop over alloc and free, through an Agent that talks to nobody.
#include "perf/alloc_perf.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "core/check.h"
#include "core/random.h"
#include "perf/small_pool.h"

namespace mempool {
namespace {

struct Sample {
  double alloc_ns = 0;
  double free_ns = 0;
};

/// Take all blocks, batch by batch, and give the batches back in an order of their own.
Result<Sample> measure_once(Agent& agent, uint32_t batch, std::vector<size_t>& order,
                            Random& random) {
  std::vector<std::vector<BlockAddress>> taken(order.size());
  Sample sample;
  const Stopwatch alloc;
  for (std::vector<BlockAddress>& blocks : taken) {
    MEMPOOL_ASSIGN_OR_RETURN(blocks, agent.alloc(batch));
  }
  sample.alloc_ns = alloc.nanoseconds();
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  const Stopwatch free;
  for (const size_t position : order) MEMPOOL_RETURN_IF_ERROR(agent.free(taken[position]));
  sample.free_ns = free.nanoseconds();
  return sample;
}

}  // namespace

Result<AllocPerfResult> run_alloc_perf(const AllocPerfOptions& options) {
  if (options.batch == 0 || options.batch > options.blocks || options.repeat == 0) {
    return invalid_argument(fmt::format(
        "batches of {} blocks, {} repeats: give 1 to {} (the pool) blocks and at least 1 repeat",
        options.batch, options.repeat, options.blocks));
  }
  MEMPOOL_ASSIGN_OR_RETURN(const std::unique_ptr<Agent> agent,
                           Agent::start(small_pool(options.blocks)));
  Random random(1);
  std::vector<size_t> order(options.blocks / options.batch);
  std::iota(order.begin(), order.end(), size_t{0});
  AllocPerfResult result;
  result.blocks = uint64_t{options.batch} * order.size();
  const auto blocks = static_cast<double>(result.blocks);
  MEMPOOL_RETURN_IF_ERROR(measure_once(*agent, options.batch, order, random).status());
  std::vector<double> allocs, frees, both;
  for (uint32_t i = 0; i < options.repeat; ++i) {
    MEMPOOL_ASSIGN_OR_RETURN(const Sample sample,
                             measure_once(*agent, options.batch, order, random));
    allocs.push_back(sample.alloc_ns / blocks);
    frees.push_back(sample.free_ns / blocks);
    both.push_back(allocs.back() + frees.back());
  }
  result.alloc_ns = spread_of(allocs);
  result.free_ns = spread_of(frees);
  result.alloc_free_ns = spread_of(both);
  return result;
}

}  // namespace mempool
