// SPDX-License-Identifier: Apache-2.0
// Owns the verbs backend's options.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "mempool/status.h"

namespace mempool {

/// What the verbs backend is told by config; core/config_keys.cc says what each means.
struct VerbsOptions {
  std::vector<std::string> devices = {"auto"};  // or "NAME", "NAME:PORT"
  uint16_t port = 0;                            // of the set-up connections
  uint32_t queue_pairs = 1;                     // to one peer on each device
  uint32_t queue_depth = 128;                   // work requests on one queue pair
  uint32_t gather = 32;                         // pieces of one work request
  uint64_t message_bytes = uint64_t{8} << 20;   // of one work request
  int32_t gid_index = -1;
  uint16_t pkey_index = 0;
  uint32_t mtu = 0;  // bytes
  uint8_t traffic_class = 0;
  uint8_t service_level = 0;
  uint8_t timeout = 14;
  uint8_t retries = 6;
  uint8_t receiver_retries = 6;
  uint32_t receives = 4096;
  bool spin = false;
  bool self_test = true;
  std::chrono::milliseconds handshake_timeout{5000};

  /// Errors: kInvalidArgument naming the key whose value is none.
  static Result<VerbsOptions> parse(const std::map<std::string, std::string>& options);
};

}  // namespace mempool
