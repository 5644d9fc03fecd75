// SPDX-License-Identifier: Apache-2.0
// Owns the drawing of the bar.
#include "examples/demo/progress.h"

#include <algorithm>

#include <fmt/format.h>

namespace mempool::demo {
namespace {

constexpr size_t kBarWidth = 20;

}  // namespace

void Progress::begin(const std::string& row) {
  row_ = row;
  state_ = "ended before its first request";
  if (terminal_) fmt::print(stderr, "\r\x1b[K{:38} takes memory", row_);
}

void Progress::show(double share, uint64_t requests, uint64_t bytes_moved) {
  state_ =
      fmt::format("{} requests, {:.2f} GB moved", requests, static_cast<double>(bytes_moved) / 1e9);
  if (!terminal_) return;
  const double bounded = std::clamp(share, 0.0, 1.0);
  const std::string done(static_cast<size_t>(bounded * kBarWidth), '#');
  fmt::print(stderr, "\r\x1b[K{:38} [{:.<{}}] {:3.0f} %  {}", row_, done, kBarWidth, bounded * 100,
             state_);
}

void Progress::end() {
  if (terminal_) {
    fmt::print(stderr, "\r\x1b[K");
  } else {
    fmt::print(stderr, "{}: {}\n", row_, state_);
  }
}

}  // namespace mempool::demo
