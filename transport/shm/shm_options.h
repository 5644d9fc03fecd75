// SPDX-License-Identifier: Apache-2.0
// Owns the shm backend's options and limits.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "mempool/status.h"
#include "transport/transport.h"

namespace mempool {

/// What the shm backend is told by config.
struct ShmOptions {
  uint32_t copy_threads = 1;  // that share one list; 1: the agent's own alone
  std::chrono::milliseconds handshake_timeout{5000};

  /// Errors: kInvalidArgument naming the key whose value is no number or out of range.
  static Result<ShmOptions> parse(const std::map<std::string, std::string>& options);
};

inline constexpr uint32_t kShmCallsInFlight = 8;
/// Slots that all endpoints of one transport may be writing to at once.
inline constexpr uint32_t kShmWords = 4096;
/// Slots of one peer that it may read: those with an index below this.
inline constexpr uint32_t kShmReadSlots = 4096;
/// Connections accepted that are not open yet; one more is closed at once.
inline constexpr uint32_t kShmArrivingMax = 64;
/// Connections that one peer, and all together, may have open here.
inline constexpr uint32_t kShmPerPeerMax = 128;
inline constexpr uint32_t kShmInboundMax = 4096;
/// Memory of one peer that is mapped here, in pieces.
inline constexpr uint32_t kShmMappingsMax = 4096;

/// Give what the shm backend can do.
const Capabilities& shm_capabilities();

}  // namespace mempool
