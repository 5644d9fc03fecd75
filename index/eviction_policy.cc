// SPDX-License-Identifier: Apache-2.0
// Owns the eviction policies there are, and their names.
#include "index/eviction_policy.h"

#include <fmt/format.h>

namespace mempool {
namespace {

/// The block that was not used for the longest time goes first.
/// Thread: serialized, with the index.
class LeastRecentlyUsed final : public EvictionPolicy {
 public:
  uint64_t rank(const BlockUse& use) const override { return use.last_use; }
};

}  // namespace

Result<std::unique_ptr<EvictionPolicy>> make_eviction_policy(std::string_view name) {
  if (name == "lru") return std::unique_ptr<EvictionPolicy>(std::make_unique<LeastRecentlyUsed>());
  return invalid_argument(
      fmt::format("there is no eviction policy \"{}\"; the one there is: lru", name));
}

}  // namespace mempool
