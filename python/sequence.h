// SPDX-License-Identifier: Apache-2.0
// Owns the reading of a caller's sequence, which other threads and its own items may change.
#pragma once

#include <nanobind/nanobind.h>

namespace mempool::python {

/// Give the items of a sequence as they are now. Raises TypeError with `words` for what is none: a
/// set or a dict has no order of its own.
nanobind::tuple items_of(nanobind::handle sequence, const char* words);

}  // namespace mempool::python
