// SPDX-License-Identifier: Apache-2.0
// Owns the ucx backend's options, and the rule of which transports of UCX need trust in the peers.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "mempool/status.h"

namespace mempool {

/// What the ucx backend is told by config.
struct UcxOptions {
  std::string tls = "rc";
  std::string devices = "all";
  std::vector<std::pair<std::string, std::string>> config;  // names without UCX_, and values
  uint16_t port = 0;                                        // of the listener; 0 picks one
  uint64_t message_bytes = uint64_t{8} << 20;
  uint32_t calls_in_flight = 64;
  bool trust_peers = false;
  bool self_test = true;
  std::chrono::milliseconds handshake_timeout{5000};

  /// Errors: kInvalidArgument naming the key and what it takes; kPermissionDenied for transports
  /// that need trust_peers.
  static Result<UcxOptions> parse(const std::map<std::string, std::string>& options);
};

}  // namespace mempool
