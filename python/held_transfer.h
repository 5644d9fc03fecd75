// SPDX-License-Identifier: Apache-2.0
// Owns a transfer as Python holds it.
#pragma once

#include <utility>

#include "core/fork_mark.h"
#include "mempool/pool.h"

namespace mempool::python {

/// Knows a fork, where each of its calls raises. Thread: safe.
struct HeldTransfer {
  explicit HeldTransfer(Transfer its) : transfer(std::move(its)) {}

  Transfer transfer;
  ForkMark made_in;
};

}  // namespace mempool::python
