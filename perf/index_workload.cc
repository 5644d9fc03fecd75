// SPDX-License-Identifier: Apache-2.0
// Owns the drawing of prompts.
#include "perf/index_workload.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "core/random.h"

namespace mempool {
namespace {

constexpr uint64_t kVocabulary = 32000;
constexpr size_t kSystemPrompts = 20;
constexpr size_t kSystemTokensMin = 512, kSystemTokensMax = 2048;
constexpr size_t kPromptTokensMin = 2000, kPromptTokensMax = 8000;
constexpr size_t kTurnTokensMin = 64;
constexpr double kTurnChance = 0.4;

size_t draw_between(Random& random, size_t least, size_t most) {
  return least + random.below(most - least + 1);
}

void extend_to(Random& random, size_t tokens, std::vector<TokenId>& prompt) {
  while (prompt.size() < tokens) {
    prompt.push_back(static_cast<TokenId>(random.below(kVocabulary)));
  }
}

/// Choose k with weight 1 / (k + 1).
size_t draw_zipf(Random& random) {
  static const std::array<double, kSystemPrompts> cumulative = [] {
    std::array<double, kSystemPrompts> sums{};
    double sum = 0;
    for (size_t k = 0; k < kSystemPrompts; ++k) sums[k] = sum += 1.0 / static_cast<double>(k + 1);
    return sums;
  }();
  const double point = random.unit() * cumulative.back();
  return static_cast<size_t>(std::ranges::upper_bound(cumulative, point) - cumulative.begin());
}

}  // namespace

std::vector<std::vector<TokenId>> make_index_workload(uint32_t sequences, uint64_t seed) {
  Random random(seed);
  std::array<std::vector<TokenId>, kSystemPrompts> system;
  for (std::vector<TokenId>& prompt : system) {
    extend_to(random, draw_between(random, kSystemTokensMin, kSystemTokensMax), prompt);
  }
  std::vector<std::vector<TokenId>> prompts;
  while (prompts.size() < sequences) {
    size_t tokens = draw_between(random, kPromptTokensMin, kPromptTokensMax);
    const std::vector<TokenId>* start = &system[draw_zipf(random)];
    if (!prompts.empty() && random.chance(kTurnChance)) {
      const std::vector<TokenId>& earlier = prompts[random.below(prompts.size())];
      if (earlier.size() + kTurnTokensMin < kPromptTokensMax) {
        start = &earlier;
        tokens = std::max(tokens, earlier.size() + kTurnTokensMin);
      }
    }
    std::vector<TokenId> prompt = *start;
    prompt.reserve(tokens);
    extend_to(random, tokens, prompt);
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

}  // namespace mempool
