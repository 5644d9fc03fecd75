// SPDX-License-Identifier: Apache-2.0
// Owns the JSON form of an agent's status, as /status and `mempool status --json` give it.
#pragma once

#include <string>

#include "mempool/agent.h"

namespace mempool {

std::string status_json(const AgentStatus& status);

}  // namespace mempool
