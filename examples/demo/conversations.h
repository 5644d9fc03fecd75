// SPDX-License-Identifier: Apache-2.0
// Owns the demo's own workload: conversations of many turns over a few shared system prompts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "mempool/types.h"

namespace mempool::demo {

/// Lengths are drawn evenly between both ends, ends included.
struct ConversationOptions {
  struct Lengths {
    uint32_t least = 0;
    uint32_t most = 0;
  };
  uint64_t seed = 1;
  size_t requests = 200;
  uint32_t system_prompts = 3;
  Lengths system_tokens{96, 160};
  uint32_t open = 5;  // conversations that take turns at any time
  Lengths turns{2, 12};
  Lengths user_tokens{8, 72};
  Lengths answer_tokens{16, 96};
};

/// Draw prompts in the order they come. A turn's prompt is all that was said before, the last
/// answer included, and the user's new words. Equal options give equal prompts.
std::vector<std::vector<TokenId>> draw_conversations(const ConversationOptions& options);

}  // namespace mempool::demo
