// SPDX-License-Identifier: Apache-2.0
// Owns the poll() of a wait.
#include "python/readiness.h"

#include <fmt/format.h>
#include <nanobind/nanobind.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cmath>

#include "python/raised_status.h"

namespace mempool::python {
namespace {

namespace nb = nanobind;
using std::chrono::milliseconds;

constexpr milliseconds kWaitMax = std::chrono::hours(1);  // of one poll()
constexpr double kSecondsMax = 1e9;

}  // namespace

milliseconds milliseconds_of(double seconds, const char* what) {
  if (std::isnan(seconds) || seconds < 0) {
    raise(invalid_argument(
        fmt::format("{} is {} seconds; give none that are negative", what, seconds)));
  }
  return milliseconds(std::llround(std::ceil(std::min(seconds, kSecondsMax) * 1000)));
}

milliseconds deadline_of(std::optional<double> seconds) {
  if (!seconds) return milliseconds(0);
  return std::max(milliseconds_of(*seconds, "deadline"), milliseconds(1));
}

WaitEnd end_of(std::optional<double> seconds) {
  if (!seconds) return std::nullopt;
  return std::chrono::steady_clock::now() + milliseconds_of(*seconds, "timeout");
}

bool wait_readable(int descriptor, const WaitEnd& end) {
  pollfd event{descriptor, POLLIN, 0};
  while (true) {
    milliseconds left = kWaitMax;
    if (end) {
      const auto rest = std::chrono::ceil<milliseconds>(*end - std::chrono::steady_clock::now());
      left = std::clamp(rest, milliseconds(0), kWaitMax);
    }
    int ready = 0;
    {
      const nb::gil_scoped_release released;
      ready = poll(&event, 1, static_cast<int>(left.count()));
    }
    if (ready > 0) return true;
    if (ready < 0 && errno == EINTR && PyErr_CheckSignals() != 0) throw nb::python_error();
    if (end && std::chrono::steady_clock::now() >= *end) return false;
  }
}

}  // namespace mempool::python
