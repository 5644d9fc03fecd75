// SPDX-License-Identifier: Apache-2.0
// Owns the models whose KV the demo moves.
#pragma once

#include <string_view>
#include <vector>

#include "mempool/content.h"

namespace mempool::demo {

inline constexpr std::string_view kLlama2 = "Llama-2-13B";
inline constexpr std::string_view kLlama3 = "Llama-3-8B";

/// Every model the demo knows, in the order of its rows.
const std::vector<ContentSpec>& models();

/// Find a model by its name. Requires: models() has it.
const ContentSpec& model(std::string_view name);

}  // namespace mempool::demo
