// SPDX-License-Identifier: Apache-2.0
// Owns the way from settings to the options of an agent, and to the log.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "core/config.h"
#include "mempool/agent.h"
#include "mempool/status.h"

namespace mempool {

/// Give the options that the settings ask for; reads the token's file, takes no memory.
/// Errors: kInvalidArgument, naming the keys, where settings contradict each other, the pool holds
/// no block or an address is none; kNotFound for a token file that cannot be read.
Result<AgentOptions> agent_options(const Config& config);

/// Give the options of all transports that the settings hold: "verbs.devices" and the like.
std::map<std::string, std::string> transport_options(const Config& config);

/// Give a transport its own options, without its name in front.
std::map<std::string, std::string> options_of_transport(const AgentOptions& options,
                                                        const std::string& transport);

/// The descriptors that an agent of these options has before its first peer, and that its
/// connections take when it has dialed as many peers as it may.
uint64_t descriptors_at_start(const AgentOptions& options);
uint64_t descriptors_of_peers(const AgentOptions& options);

/// Write the log as [log] says, from now on. Call it before other threads log.
Status configure_log(const Config& config);

/// Give the agents' shared secret from `token` or from the file `path`, without its line end;
/// empty when neither is given. Errors: kInvalidArgument where both are, or the file holds none;
/// kNotFound for a file that cannot be read.
Result<std::string> shared_token(const std::string& token, const std::string& path);

}  // namespace mempool
