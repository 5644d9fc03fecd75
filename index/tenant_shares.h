// SPDX-License-Identifier: Apache-2.0
// Owns how many blocks each tenant has, and what its quota and its floor make of that.
//
// Invariant, which audit() checks: published + awaited <= quota, for each tenant that has one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "mempool/status.h"

namespace mempool {

/// What an operator grants a tenant, in blocks.
struct TenantRule {
  std::string name;
  uint64_t tenant = 0;  // Content::tenant of its contents
  uint64_t quota = 0;   // the most it may have; 0: no limit
  uint64_t floor = 0;   // what others may not evict; 0: nothing
};

struct TenantRules {
  std::vector<TenantRule> tenants;  // no two with one name or one `tenant`
  uint32_t retry_hint_ms = 0;       // said where a quota may have room again later
};

/// One tenant's part of the pool; or, as the first one, that of all who are not listed.
struct TenantShare {
  TenantRule rule;
  uint64_t published = 0;
  uint64_t awaited = 0;  // taken for transfers and fetches that bring its blocks
};

/// Who needs room, which decides whose blocks may be evicted for it.
struct Need {
  enum class Of : uint8_t {
    kPool,   // room in the pool: own blocks, and others' above their floors
    kQuota,  // room under the own quota: own blocks
    kTime,   // none: all that had its time
  };
  uint32_t share = 0;
  Of of = Of::kPool;
};

/// Shares are known by their position in all(); 0 is that of all who are not listed.
/// Thread: serialized, with the index.
class TenantShares {
 public:
  explicit TenantShares(TenantRules rules = {});

  const std::vector<TenantShare>& all() const { return shares_; }
  /// Those that rules name.
  std::span<const TenantShare> listed() const { return std::span(shares_).subspan(1); }
  /// Find the share of a Content::tenant.
  uint32_t find(uint64_t tenant) const;

  // ---- counting ----------------------------------------------------------------------------
  void publish(uint32_t share, size_t blocks) { shares_[share].published += blocks; }
  void unpublish(uint32_t share, size_t blocks) { shares_[share].published -= blocks; }
  void await(uint32_t share, size_t blocks) { shares_[share].awaited += blocks; }
  void unawait(uint32_t share, size_t blocks) { shares_[share].awaited -= blocks; }

  // ---- rules -------------------------------------------------------------------------------
  /// Give how many blocks a share must let go before it may have `more`.
  uint64_t excess(uint32_t share, uint64_t more) const;
  /// Give how many blocks may be evicted from a share, pins aside.
  uint64_t yields(uint32_t share, const Need& need) const {
    const TenantShare& of = shares_[share];
    if (need.of == Need::Of::kTime || share == need.share) return of.published;
    if (need.of == Need::Of::kQuota || of.published <= of.rule.floor) return 0;
    return of.published - of.rule.floor;
  }
  /// Give the error for a request of `asked` blocks in all, `more` of them new, that the quota
  /// leaves no room for: with a retry hint, where it could have room.
  Status over_quota(uint32_t share, uint64_t asked, uint64_t more) const;
  /// Errors: kInternal.
  Status audit() const;

 private:
  std::vector<TenantShare> shares_;
  std::unordered_map<uint64_t, uint32_t> by_tenant_;
  uint32_t retry_hint_ms_;
};

}  // namespace mempool
