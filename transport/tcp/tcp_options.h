// SPDX-License-Identifier: Apache-2.0
// Owns the tcp backend's options and limits.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "mempool/status.h"
#include "transport/transport.h"

namespace mempool {

/// What the tcp backend is told by config.
struct TcpOptions {
  uint16_t port = 0;            // of the listener; 0 picks one
  uint32_t streams = 1;         // connections to one peer
  uint32_t send_buffer = 0;     // bytes of SO_SNDBUF; 0 leaves it to the kernel
  uint32_t receive_buffer = 0;  // bytes of SO_RCVBUF; 0 leaves it to the kernel
  std::chrono::milliseconds handshake_timeout{5000};

  /// Errors: kInvalidArgument naming the key whose value is no number or out of range.
  static Result<TcpOptions> parse(const std::map<std::string, std::string>& options);
};

inline constexpr uint32_t kTcpCallsInFlight = 16;

/// Give what the tcp backend can do.
const Capabilities& tcp_capabilities();

}  // namespace mempool
