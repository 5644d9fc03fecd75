// SPDX-License-Identifier: Apache-2.0
// Owns waiting for a descriptor as Python waits: without the GIL, and awake for signals.
#pragma once

#include <chrono>
#include <optional>

namespace mempool::python {

/// When a wait ends; none: never.
using WaitEnd = std::optional<std::chrono::steady_clock::time_point>;

/// Give the end of a wait of so many seconds from now. None: never.
WaitEnd end_of(std::optional<double> seconds);
/// Read a duration in seconds. Raises InvalidArgument, naming it, for one that is none.
std::chrono::milliseconds milliseconds_of(double seconds, const char* what);

/// Wait until a descriptor, or the second one, is readable; false when the time was over. Raises
/// what a signal's handler raises (KeyboardInterrupt). Requires: the GIL, which others have
/// meanwhile. `second` may be -1.
bool wait_readable(int first, int second, const WaitEnd& end);

}  // namespace mempool::python
