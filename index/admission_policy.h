// SPDX-License-Identifier: Apache-2.0
// Owns the choice of what enters the cache, behind one interface.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "index/ghost_table.h"
#include "mempool/status.h"
#include "mempool/types.h"

namespace mempool {

/// Thread: serialized, with the index.
class AdmissionPolicy {
 public:
  virtual ~AdmissionPolicy() = default;
  /// Decide on a block that the index lacks, and remember that it was offered.
  virtual bool admits(PrefixPrint print, const BlockAddress& offered) = 0;
  virtual size_t memory_bytes() const = 0;
};

/// Give the policy for a pool of `blocks`; null admits everything ("all"). Errors:
/// kInvalidArgument, listing the names there are ("all", "second_hit").
Result<std::unique_ptr<AdmissionPolicy>> make_admission_policy(std::string_view name,
                                                               uint32_t blocks);

}  // namespace mempool
