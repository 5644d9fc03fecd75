// SPDX-License-Identifier: Apache-2.0
// Owns the models whose KV the demo moves.
#pragma once

#include <string_view>
#include <vector>

#include "mempool/content.h"

namespace mempool::demo {

inline constexpr std::string_view kLlama2 = "Llama-2-13B";
inline constexpr std::string_view kLlama3 = "Llama-3-8B";
inline constexpr std::string_view kTinyLlama = "TinyLlama-1.1B";

/// Every model the demo knows, in the order of its rows.
const std::vector<ContentSpec>& models();

/// Tell whether the demo moves a model's KV where another one is not asked for: of the small one,
/// for machines that have little memory or none of speed, it does not.
bool is_shown_unasked(const ContentSpec& spec);

/// Find a model by its name. Requires: models() has it.
const ContentSpec& model(std::string_view name);

}  // namespace mempool::demo
