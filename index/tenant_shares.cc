// SPDX-License-Identifier: Apache-2.0
// Owns the words that tell a tenant why it may have no more.
#include "index/tenant_shares.h"

#include <fmt/format.h>

#include <utility>

namespace mempool {

TenantShares::TenantShares(TenantRules rules) : shares_(1), retry_hint_ms_(rules.retry_hint_ms) {
  shares_.front().rule.name = "any other";
  for (TenantRule& rule : rules.tenants) {
    by_tenant_.emplace(rule.tenant, static_cast<uint32_t>(shares_.size()));
    shares_.push_back({.rule = std::move(rule)});
  }
}

uint32_t TenantShares::find(uint64_t tenant) const {
  if (by_tenant_.empty()) return 0;
  const auto found = by_tenant_.find(tenant);
  return found == by_tenant_.end() ? 0 : found->second;
}

uint64_t TenantShares::excess(uint32_t share, uint64_t more) const {
  const TenantShare& of = shares_[share];
  const uint64_t wanted = of.published + of.awaited + more;
  return of.rule.quota == 0 || wanted <= of.rule.quota ? 0 : wanted - of.rule.quota;
}

Status TenantShares::over_quota(uint32_t share, uint64_t asked, uint64_t more) const {
  const TenantShare& of = shares_[share];
  if (asked > of.rule.quota) {
    return resource_exhausted(
        fmt::format("tenant '{}' has a quota of {} blocks and asks for {} at once; raise "
                    "quota_blocks, or send less",
                    of.rule.name, of.rule.quota, asked));
  }
  return resource_exhausted(
      fmt::format("tenant '{}' has a quota of {} blocks: {} are published and {} on their way, too "
                  "many of them in use for {} more; unpin some, or raise quota_blocks",
                  of.rule.name, of.rule.quota, of.published, of.awaited, more),
      retry_hint_ms_);
}

Status TenantShares::audit() const {
  for (const TenantShare& of : shares_) {
    if (of.rule.quota == 0 || of.published + of.awaited <= of.rule.quota) continue;
    return internal_error(fmt::format(
        "tenant '{}' has {} published blocks and {} on their way, above its quota of {}",
        of.rule.name, of.published, of.awaited, of.rule.quota));
  }
  return {};
}

}  // namespace mempool
