// SPDX-License-Identifier: Apache-2.0
// Owns the counting behind the figures.
#include "examples/demo/statistics.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include <fmt/format.h>

#include "examples/demo/kv_pattern.h"

namespace mempool::demo {

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  const double rank = std::ceil(share * static_cast<double>(values.size()));
  const size_t position = static_cast<size_t>(std::max(rank, 1.0)) - 1;
  std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(position), values.end());
  return values[position];
}

PromptStatistics prompt_statistics(std::span<const std::vector<TokenId>> prompts,
                                   uint32_t tokens_per_block) {
  PromptStatistics statistics;
  std::vector<double> lengths;
  std::unordered_set<uint64_t> seen;  // hash of each prefix of whole blocks
  for (const std::vector<TokenId>& prompt : prompts) {
    lengths.push_back(static_cast<double>(prompt.size()));
    statistics.tokens += prompt.size();
    const std::vector<uint64_t> hashes = prefix_hashes(0, prompt);
    for (size_t end = tokens_per_block; end <= hashes.size(); end += tokens_per_block) {
      if (!seen.insert(hashes[end - 1]).second) statistics.tokens_seen_before += tokens_per_block;
    }
  }
  statistics.prompts = prompts.size();
  statistics.tokens_p50 = static_cast<uint64_t>(percentile(lengths, 0.5));
  statistics.tokens_max = static_cast<uint64_t>(percentile(lengths, 1));
  return statistics;
}

std::string to_string(const PromptStatistics& statistics) {
  const double prompts = static_cast<double>(statistics.prompts);
  const double tokens = static_cast<double>(statistics.tokens);
  return fmt::format(
      "{} prompts of {:.0f} tokens on average (p50 {}, most {}); an endless cache would hit {:.1f} "
      "%",
      statistics.prompts, tokens / prompts, statistics.tokens_p50, statistics.tokens_max,
      100 * static_cast<double>(statistics.tokens_seen_before) / tokens);
}

}  // namespace mempool::demo
