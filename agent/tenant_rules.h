// SPDX-License-Identifier: Apache-2.0
// Owns the check of what operators grant tenants.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "index/tenant_shares.h"
#include "mempool/agent.h"
#include "mempool/status.h"

namespace mempool {

/// Give the rules of a pool of `blocks`. Errors: kInvalidArgument, naming the tenant but never its
/// salt, for no salt, one that another has too, a floor above the quota, and floors that the pool
/// cannot hold together; for a name that is none, and too many tenants.
Result<TenantRules> tenant_rules(const std::map<std::string, TenantOptions>& tenants,
                                 uint64_t blocks, uint32_t retry_hint_ms);

}  // namespace mempool
