// SPDX-License-Identifier: Apache-2.0
// Owns the words for tenants that cannot be.
#include "agent/tenant_rules.h"

#include <fmt/format.h>

#include <algorithm>

#include "agent/wire.h"
#include "core/canonical.h"
#include "core/check.h"

namespace mempool {
namespace {

constexpr size_t kTenantsMost = 256;  // eviction asks each of them for its oldest block

Status check_tenant(const std::string& name, const TenantOptions& options) {
  MEMPOOL_RETURN_IF_ERROR(check_name(name).with_context("tenants"));
  if (options.salt.empty()) {
    return invalid_argument(fmt::format(
        "tenant '{}' has no salt; give it the one of its contents by salt or salt_file", name));
  }
  if (options.quota_blocks == 0 || options.floor_blocks <= options.quota_blocks) return {};
  return invalid_argument(
      fmt::format("tenant '{}' has floor_blocks = {} above its quota_blocks = {}; lower the floor",
                  name, options.floor_blocks, options.quota_blocks));
}

}  // namespace

Result<TenantRules> tenant_rules(const std::map<std::string, TenantOptions>& tenants,
                                 uint64_t blocks, uint32_t retry_hint_ms) {
  if (tenants.size() > kTenantsMost) {
    return invalid_argument(
        fmt::format("{} tenants are listed; list at most {}", tenants.size(), kTenantsMost));
  }
  TenantRules rules;
  rules.retry_hint_ms = retry_hint_ms;
  uint64_t free = blocks;
  for (const auto& [name, options] : tenants) {
    MEMPOOL_RETURN_IF_ERROR(check_tenant(name, options));
    MEMPOOL_ASSIGN_OR_RETURN(const uint64_t tenant, tenant_hash(options.salt));
    const auto same = std::ranges::find(rules.tenants, tenant, &TenantRule::tenant);
    if (same != rules.tenants.end()) {
      return invalid_argument(fmt::format(
          "tenants '{}' and '{}' have the same salt; list it once, or give each its own",
          same->name, name));
    }
    if (options.floor_blocks > free) {
      return invalid_argument(fmt::format(
          "tenant '{}' has floor_blocks = {}; the other floors leave {} of the pool's {} blocks",
          name, options.floor_blocks, free, blocks));
    }
    free -= options.floor_blocks;
    rules.tenants.push_back({name, tenant, options.quota_blocks, options.floor_blocks});
  }
  return rules;
}

}  // namespace mempool
