// SPDX-License-Identifier: Apache-2.0
// Owns how a Status becomes an exception of Python.
#pragma once

#include <nanobind/nanobind.h>

#include <utility>

#include "mempool/status.h"

namespace mempool::python {

/// Give the exception that stands for a Status that is not ok. Requires: the GIL.
nanobind::object exception_of(const Status& status);
/// Throw it. Requires: the GIL, and that the status is not ok.
[[noreturn]] void raise(const Status& status);

inline void check(const Status& status) {
  if (!status.ok()) raise(status);
}

/// Give what a call gave, or raise why it gave nothing. Requires: the GIL.
template <typename T>
T take(Result<T> result) {
  if (!result.ok()) raise(result.status());
  return std::move(result).value();
}

}  // namespace mempool::python
