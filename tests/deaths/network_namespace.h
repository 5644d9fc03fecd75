// SPDX-License-Identifier: Apache-2.0
// Owns a network of a test's own, whose packets between two hosts can be dropped or reset.
#pragma once

#include <memory>
#include <string>

#include "mempool/status.h"

namespace mempool::testing {

/// A network with a loopback device only, of the calling thread and those it starts from then on,
/// until this goes. Its 127.0.0.1, 127.0.0.2... stand for hosts. Thread: confined.
class NetworkNamespace {
 public:
  /// Enter a new one. Errors: kPermissionDenied where this process may not; kUnavailable where a
  /// tool is missing.
  static Result<std::unique_ptr<NetworkNamespace>> enter();
  ~NetworkNamespace();

  /// What becomes of the packets from one host to the other: "drop", or "reset" for an answer that
  /// breaks the connection.
  Status cut(const std::string& from, const std::string& to, const std::string& how);
  Status heal();

 private:
  explicit NetworkNamespace(int before) : before_(before) {}

  int before_;  // the namespace that the thread came from
};

}  // namespace mempool::testing
