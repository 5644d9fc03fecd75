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
/// Read a call's deadline as the pool takes it. None: 0, which is the pool's own; 0 s: the
/// shortest.
std::chrono::milliseconds deadline_of(std::optional<double> seconds);

/// Wait until a descriptor is readable; false when the time was over. Raises what a signal's
/// handler raises (KeyboardInterrupt). Requires: the GIL, which others have meanwhile.
bool wait_readable(int descriptor, const WaitEnd& end);

}  // namespace mempool::python
