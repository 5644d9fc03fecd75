// SPDX-License-Identifier: Apache-2.0
// Owns the life of a pool's blocks without the pool: requests that come and go.
#include "perf/churn_perf.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "core/check.h"
#include "core/free_map.h"
#include "core/random.h"
#include "transport/gather_plan.h"

namespace mempool {
namespace {

constexpr uint32_t kRequestBlocks = 64;  // 1,024 tokens
constexpr uint32_t kRequestBlocksMin = 8, kRequestBlocksMax = 128;
constexpr uint32_t kPoolBlocksMin = 1024;
constexpr uint32_t kChurnMax = 1000;
constexpr double kOccupancy = 0.9;

using Blocks = std::vector<uint32_t>;

/// The allocator of the pool. Thread: confined.
class RunKeeping {
 public:
  explicit RunKeeping(uint32_t blocks) : map_(blocks) {}
  void take(uint32_t count, Blocks& out) { map_.take(count, std::nullopt, out); }
  void give(uint32_t block) { map_.give(block); }

 private:
  FreeMap map_;
};

/// The baseline. Thread: confined.
class LastInFirstOut {
 public:
  explicit LastInFirstOut(uint32_t blocks) : list_(blocks) {
    std::iota(list_.rbegin(), list_.rend(), 0u);
  }
  void take(uint32_t count, Blocks& out) {
    out.insert(out.end(), list_.rbegin(), list_.rbegin() + count);
    list_.resize(list_.size() - count);
  }
  void give(uint32_t block) { list_.push_back(block); }

 private:
  Blocks list_;  // the next one to go out at the end
};

/// Give the blocks of a request that comes to a pool after its churn.
template <typename FreeBlocks>
Blocks blocks_after_churn(uint32_t blocks, uint32_t churn, uint64_t seed) {
  FreeBlocks free(blocks);
  Random random(seed);
  const auto wanted = static_cast<uint32_t>(kOccupancy * blocks);
  const auto draw = [&random] {
    return kRequestBlocksMin +
           static_cast<uint32_t>(random.below(kRequestBlocksMax - kRequestBlocksMin + 1));
  };
  std::vector<Blocks> requests;
  uint32_t occupied = 0;
  uint32_t next = draw();
  const auto fill = [&] {
    for (; occupied + next <= wanted; next = draw()) {
      free.take(next, requests.emplace_back());
      occupied += next;
    }
  };
  fill();
  const uint64_t turnover = uint64_t{occupied} * churn / 100;
  for (uint64_t turned = 0; turned < turnover;) {
    Blocks& request = requests[random.below(requests.size())];
    const auto gone = static_cast<uint32_t>(1 + random.below(request.size()));
    for (uint32_t i = 0; i < gone; ++i) {
      free.give(request.back());
      request.pop_back();
    }
    if (request.empty()) {
      std::swap(request, requests.back());
      requests.pop_back();
    }
    turned += gone;
    occupied -= gone;
    fill();
  }
  Blocks result;
  free.take(kRequestBlocks, result);
  return result;
}

Result<uint64_t> run_pairs_of(const Blocks& source, const Blocks& target, BlockForm form,
                              uint32_t pool_blocks) {
  ContentSpec content;  // Llama-2-13B
  content.layers = 40;
  content.kv_heads = 40;
  content.head_size = 128;
  content.element = ElementType::kFloat16;
  content.tokens_per_block = 16;
  Placement placement;
  placement.form = form;
  PlanSegment segment;
  segment.blocks = pool_blocks;
  MEMPOOL_ASSIGN_OR_RETURN(segment.layout, make_layout(content, placement, pool_blocks));
  const std::span segments(&segment, 1);
  MEMPOOL_ASSIGN_OR_RETURN(GatherPlan plan,
                           GatherPlan::create({segments, source}, {segments, target}));
  std::array<RunPair, 64> pairs;
  const CallLimits limits = {.local_pieces = UINT32_MAX, .remote_ranges = UINT32_MAX};
  while (plan.next_call(limits, pairs) > 0) continue;
  return plan.run_pairs();
}

template <typename FreeBlocks>
Result<RunPairs> measure(const ChurnPerfOptions& options, uint32_t churn, bool churned_target) {
  std::vector<double> discrete, aggregated;
  for (uint32_t i = 0; i < options.repeat; ++i) {
    const uint64_t seed = 2 * i + 1;
    const Blocks source = blocks_after_churn<FreeBlocks>(options.blocks, churn, seed);
    const Blocks target =
        blocks_after_churn<FreeBlocks>(options.blocks, churned_target ? churn : 0, seed + 1);
    MEMPOOL_ASSIGN_OR_RETURN(const uint64_t apart,
                             run_pairs_of(source, target, BlockForm::kDiscrete, options.blocks));
    MEMPOOL_ASSIGN_OR_RETURN(const uint64_t together,
                             run_pairs_of(source, target, BlockForm::kAggregated, options.blocks));
    discrete.push_back(static_cast<double>(apart));
    aggregated.push_back(static_cast<double>(together));
  }
  return RunPairs{spread_of(discrete), spread_of(aggregated)};
}

}  // namespace

Result<std::vector<ChurnPerfRow>> run_churn_perf(const ChurnPerfOptions& options) {
  if (options.blocks < kPoolBlocksMin || options.blocks > BlockAddress::kIndexMax ||
      options.repeat == 0) {
    return invalid_argument(
        fmt::format("a pool of {} blocks, {} repeats: give {} to {} blocks and at least 1 repeat",
                    options.blocks, options.repeat, kPoolBlocksMin, BlockAddress::kIndexMax));
  }
  std::vector<ChurnPerfRow> rows;
  for (const uint32_t churn : options.churn) {
    if (churn > kChurnMax) {
      return invalid_argument(fmt::format("a churn of {} %: give 0 to {}", churn, kChurnMax));
    }
    for (const bool churned_target : {false, true}) {
      ChurnPerfRow row{.churn = churn, .churned_target = churned_target, .ours = {}, .lifo = {}};
      MEMPOOL_ASSIGN_OR_RETURN(row.ours, measure<RunKeeping>(options, churn, churned_target));
      MEMPOOL_ASSIGN_OR_RETURN(row.lifo, measure<LastInFirstOut>(options, churn, churned_target));
      rows.push_back(row);
    }
  }
  return rows;
}

}  // namespace mempool
