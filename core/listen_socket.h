// SPDX-License-Identifier: Apache-2.0
// Owns addresses of the form host:port, and binding a listening socket to one, with the rule that
// nothing beyond loopback is opened without a token.
#pragma once

#include <cstdint>
#include <string>

#include "mempool/status.h"

namespace mempool {

/// Split "host:port" or "[v6]:port". Errors: kInvalidArgument.
Status split_address(const std::string& address, std::string& host, uint16_t& port);
/// Join them again, with brackets around a v6 host.
std::string join_address(const std::string& host, uint16_t port);

/// A bound, listening TCP socket; whoever takes it closes the descriptor.
struct ListenSocket {
  int descriptor = -1;
  bool v6 = false;
  std::string host;  // numeric
  uint16_t port = 0;
};

/// Bind a numeric host (or "localhost") and listen; port 0 lets the kernel pick.
/// Errors: kInvalidArgument; kPermissionDenied for a host beyond loopback without a token;
/// kUnavailable with the kernel's reason.
Result<ListenSocket> listen_on(const std::string& host, uint16_t port, const std::string& token);

}  // namespace mempool
