// SPDX-License-Identifier: Apache-2.0
// Owns a relay between two agents' control planes that changes what the acceptor says of its
// blocks.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <thread>

#include "agent/wire.h"

namespace mempool::testing {

/// Relays one connection. Both agents need the empty token's proof only, which passes as it is.
/// Thread: confined; two of its own carry the bytes.
class WelcomeProxy {
 public:
  WelcomeProxy(const std::string& acceptor, std::function<void(Welcome&)> change);
  /// Wait for the relay to end. Requires: the dialer is gone, or never came.
  ~WelcomeProxy();
  WelcomeProxy(const WelcomeProxy&) = delete;
  WelcomeProxy& operator=(const WelcomeProxy&) = delete;

  /// Where to dial instead of the acceptor.
  const std::string& address() const { return address_; }

 private:
  void relay();
  void carry_frames(int from, int to);

  const std::string acceptor_;
  const std::function<void(Welcome&)> change_;
  std::string address_;
  int listener_ = -1;
  std::thread thread_;
};

}  // namespace mempool::testing
