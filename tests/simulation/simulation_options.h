// SPDX-License-Identifier: Apache-2.0
// Owns what a seed decides before a run begins: its shape, its delays and its faults.
#pragma once

#include <cstdint>
#include <string>

#include "core/checksum.h"
#include "core/clock.h"
#include "core/random.h"
#include "transport/gather_plan.h"

namespace mempool::simulation {

/// Most things take `least` to `most`; a share of them anything up to `tail`.
struct DelayRange {
  Duration least{};
  Duration most{};
  Duration tail{};
  double tail_share = 0;
};

struct SimulationOptions {
  uint64_t seed = 0;

  // ---- shape ----
  uint32_t instances = 2;
  uint32_t segments = 1;
  uint32_t segment_blocks = 16;
  uint32_t max_inbound = 8;
  uint32_t max_connections = 256;  // of each instance's source
  Verify verify = Verify::kSampled;
  bool checked_writes = false;  // the target admits each range, as tcp's end does; else as RDMA
  uint32_t lanes = 1;
  CallLimits call_limits;
  bool one_order = true;  // of tokens and heads, at all instances
  uint32_t shards = 1;    // of all instances; 0: each draws its own
  uint32_t quota = 0;     // of the first tenant, at all instances; 0: none
  uint32_t floor = 0;

  // ---- workload ----
  uint32_t operations = 0;  // of each instance's engine
  Duration pace{};          // mean time between two of them
  double short_deadlines = 0;

  // ---- faults ----
  DelayRange control;
  DelayRange data;
  bool ordered_control = false;  // else messages overtake each other
  double drop = 0;               // of control messages
  double duplicate = 0;
  double dial_failure = 0;
  double lost_notification = 0;
  double corrupt = 0;        // of data calls, one bit
  Duration disturb_every{};  // mean time between stops, kills, clogs and broken sessions; 0: none
};

/// A number of shards that the two heads divide over: of four shards, two hold each of them.
uint32_t draw_shards(Random& random);
/// Everything from the seed, and nothing else.
SimulationOptions options_from(uint64_t seed);
std::string to_string(const SimulationOptions& options);

}  // namespace mempool::simulation
