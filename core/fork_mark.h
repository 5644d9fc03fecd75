// SPDX-License-Identifier: Apache-2.0
// Owns telling a process from its forks, which have neither its threads nor its locks' holders.
#pragma once

#include <cstdint>

#include "mempool/status.h"

namespace mempool {

/// Remembers the process that it was made in, for one load an asking. A child of vfork() or of a
/// bare clone() is taken for its parent. Thread: safe.
class ForkMark {
 public:
  ForkMark();
  /// Tell whether this is still that process, and no fork of it.
  bool here() const;
  /// Errors: kUnavailable in a fork.
  Status check() const;

 private:
  const uint64_t depth_;
};

}  // namespace mempool
