// SPDX-License-Identifier: Apache-2.0
// Owns a shape whose transfers take long enough to be stopped in the middle.
#pragma once

#include "tests/agent/agent_pair.h"

namespace mempool::testing {

/// 512 KiB a block.
inline ContentSpec large_spec() {
  ContentSpec spec = small_spec();
  spec.layers = 16;
  spec.kv_heads = 8;
  spec.head_size = 256;
  return spec;
}

/// 48 blocks.
inline constexpr size_t kLargePromptTokens = 48 * 4;

inline AgentOptions large_options(const std::string& name, const std::string& transport) {
  AgentOptions options = small_options(name, transport);
  options.content = large_spec();
  options.verify = "off";
  options.peer_timeout = std::chrono::seconds(60);  // silence alone must not end the session
  return options;
}

}  // namespace mempool::testing
