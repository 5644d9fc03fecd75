// SPDX-License-Identifier: Apache-2.0
// Owns the faults of a network cable, and a cable that has one.
#pragma once

#include <chrono>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mempool::testing {

struct CableFault {
  std::string_view name;
  std::string_view netem;              // what becomes of packets, as tc says it; empty: link down
  std::chrono::milliseconds lasts{0};  // 0: as long as the call
};

/// Every fault there is.
std::span<const CableFault> cable_faults();

/// Has its fault at both ends from when it is made until it goes. Needs root, and tc or ip.
/// Thread: confined.
class BrokenCable {
 public:
  BrokenCable(const CableFault& fault, std::vector<std::string> ends);
  BrokenCable(const BrokenCable&) = delete;
  BrokenCable& operator=(const BrokenCable&) = delete;
  ~BrokenCable();

 private:
  const CableFault& fault_;
  const std::vector<std::string> ends_;
};

}  // namespace mempool::testing
