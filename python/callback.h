// SPDX-License-Identifier: Apache-2.0
// Owns calls into Python from a pool's own thread, and their end with the interpreter.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>

#include "mempool/status.h"

namespace mempool::python {

/// Make on_done of a callable that takes an exception or None; what it raises goes to
/// sys.unraisablehook. Requires: the GIL. Runs, and goes, in any thread.
std::function<void(const Status&)> callback_of(nanobind::object callable);
/// Tell whether this thread runs such a callback: a call that waits would wait for itself.
bool in_callback();
/// Raise InvalidArgument in such a thread. `call` is the name of what waits.
void refuse_in_callback(const char* call);
/// Let no callback begin any more, and wait for those that run. Requires: the GIL is not held.
void end_callbacks();

}  // namespace mempool::python
