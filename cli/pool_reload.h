// SPDX-License-Identifier: Apache-2.0
// Owns what a running agent takes up of changed settings: the size of its pool.
#pragma once

#include <chrono>

#include "core/config.h"
#include "mempool/agent.h"
#include "mempool/status.h"

namespace mempool {

/// Have an agent's pool grow by what the settings give it more, as one segment, or shrink by its
/// last segments as long as it keeps at least what they give it; each has `timeout` to get free.
/// Errors: those of agent_options(), Agent::grow() and Agent::shrink().
Status reload_pool(Agent& agent, const Config& config, std::chrono::milliseconds timeout);

}  // namespace mempool
