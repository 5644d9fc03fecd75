// SPDX-License-Identifier: Apache-2.0
// Owns the options of an agent for measuring calls that move no bytes.
#pragma once

#include <cstdint>
#include <string>

#include "mempool/agent.h"

namespace mempool {

/// Give a pool of 64-byte blocks of 16 tokens, without peers.
AgentOptions small_pool(uint32_t blocks, const std::string& verify = "off");

}  // namespace mempool
