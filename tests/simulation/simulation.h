// SPDX-License-Identifier: Apache-2.0
// Owns one simulated run from its seed: agents at work under faults, then healing and the demands.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/simulation/instance.h"
#include "tests/simulation/network.h"
#include "tests/simulation/oracle.h"
#include "tests/simulation/run.h"

namespace mempool::simulation {

/// Thread: confined.
class Simulation {
 public:
  Simulation(const SimulationOptions& options, bool traced);

  /// Run it. Gives the first failure, empty for none.
  std::string run();
  size_t calls() const { return ledger_.size(); }
  size_t calls_ended_ok() const { return ledger_.ended_ok(); }

 private:
  void start_instance(uint32_t place);
  void check_at_intervals();
  void disturb_at_intervals();
  void disturb();
  /// Clog some links at once and free them one by one, each at its own time.
  void swizzle_clog();
  void heal();
  void demand_quiet();
  void demand_work();
  void demand_everything_back();

  Run run_;
  Ledger ledger_;
  Network network_;
  std::vector<std::string> names_;
  std::vector<Instance*> live_;                   // by place; the life that runs now
  std::vector<std::unique_ptr<Instance>> lives_;  // all of them
  bool working_ = true;
};

}  // namespace mempool::simulation
