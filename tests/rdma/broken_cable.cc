// SPDX-License-Identifier: Apache-2.0
// Owns the words by which tc and ip break a cable and mend it.
#include "tests/rdma/broken_cable.h"

#include <cstdlib>
#include <utility>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace mempool::testing {
namespace {

using namespace std::chrono_literals;

constexpr CableFault kFaults[] = {
    {"loss_1", "loss 1%"},
    {"loss_10", "loss 10%"},
    {"duplicate_1", "duplicate 1%"},
    {"corrupt_1", "corrupt 1%"},
    {"reorder_1", "delay 5ms reorder 99%"},  // one in a hundred comes 5 ms behind its time
    {"black_hole_short", "loss 100%", 200ms},
    {"black_hole_long", "loss 100%", 5000ms},
    {"link_down", "", 200ms},
};

void run(const std::string& command) {
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
}

}  // namespace

std::span<const CableFault> cable_faults() {
  return kFaults;
}

BrokenCable::BrokenCable(const CableFault& fault, std::vector<std::string> ends)
    : fault_(fault), ends_(std::move(ends)) {
  for (const std::string& end : ends_) {
    run(fault_.netem.empty()
            ? fmt::format("ip link set dev {} down", end)
            : fmt::format("tc qdisc replace dev {} root netem {}", end, fault_.netem));
  }
}

BrokenCable::~BrokenCable() {
  for (const std::string& end : ends_) {
    run(fault_.netem.empty() ? fmt::format("ip link set dev {} up", end)
                             : fmt::format("tc qdisc del dev {} root", end));
  }
}

}  // namespace mempool::testing
