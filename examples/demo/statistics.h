// SPDX-License-Identifier: Apache-2.0
// Owns figures over lists: percentiles, and what a list of prompts is made of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "mempool/types.h"

namespace mempool::demo {

/// The least value that `share` of all values do not exceed; 0 of none.
double percentile(std::vector<double> values, double share);

struct PromptStatistics {
  size_t prompts = 0;
  uint64_t tokens = 0;
  uint64_t tokens_p50 = 0;  // of one prompt
  uint64_t tokens_max = 0;
  uint64_t tokens_seen_before = 0;  // in whole blocks of earlier prompts: hits of an endless cache
};

PromptStatistics prompt_statistics(std::span<const std::vector<TokenId>> prompts,
                                   uint32_t tokens_per_block);

/// Say them in one sentence.
std::string to_string(const PromptStatistics& statistics);

}  // namespace mempool::demo
