// SPDX-License-Identifier: Apache-2.0
// Owns the one thread that calls into Python for all pools, so that none of theirs ever waits for
// the GIL.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>
#include <memory>

#include "mempool/status.h"

namespace mempool::python {

/// Share an object with threads that do not have the GIL, whoever lets go of it last; begins the
/// thread. In a fork it stays. Requires: the GIL.
std::shared_ptr<nanobind::object> shared_object(nanobind::object object);
/// Make on_done of a callable that takes an exception or None; what it raises goes to
/// sys.unraisablehook. Requires: the GIL. Runs, and goes, in any thread.
std::function<void(const Status&)> callback_of(nanobind::object callable);
/// End the objects that threads without the GIL have let go of, now. Requires: the GIL.
void end_objects();
/// Let no callback begin any more, after those that wait, and end their thread. Requires: the GIL
/// is not held.
void end_callbacks();

}  // namespace mempool::python
