// SPDX-License-Identifier: Apache-2.0
// Owns the times of the simulated agents, shorter than the real ones so that a run has many of
// each.
#pragma once

#include "core/clock.h"

namespace mempool::simulation {

inline constexpr Duration kRetransmit = std::chrono::milliseconds(40);
inline constexpr Duration kStopGrace = std::chrono::milliseconds(20);
inline constexpr Duration kFenceTimeout = std::chrono::milliseconds(150);
inline constexpr Duration kHeartbeat = std::chrono::milliseconds(60);
inline constexpr Duration kPeerTimeout = std::chrono::milliseconds(300);
inline constexpr Duration kDialTimeout = std::chrono::milliseconds(250);
inline constexpr Duration kLongestDeadline = std::chrono::milliseconds(500);

}  // namespace mempool::simulation
