// SPDX-License-Identifier: Apache-2.0
// Owns the judgement of what the self-test measured: what is used, and how large.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "mempool/status.h"

namespace mempool {

/// What moving a pattern of one size showed; kOk too for what was not tried.
struct UcxSample {
  uint64_t bytes = 0;
  Status put;  // kCorruption where bytes changed
  Status get;
  double put_bytes_per_second = 0;
};

/// What may be used.
struct UcxVerdict {
  bool put = true;
  bool get = true;
  uint64_t bytes = 0;              // of the largest call
  bool final = false;              // no larger size has to be tried
  std::string why;                 // no larger one may be used, where that was found
  std::vector<Status> turned_off;  // what was wrong with each operation that is not used
};

/// Judge samples of growing size. An operation that changed bytes of any size, or failed with the
/// smallest, is not used at all; one that fails with a larger size, or whose puts go far slower
/// than smaller ones, bounds the calls of both.
UcxVerdict judge_ucx(std::span<const UcxSample> samples);

}  // namespace mempool
