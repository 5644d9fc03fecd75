// SPDX-License-Identifier: Apache-2.0
// Owns two hosts that a test makes of one: network namespaces joined by a veth pair.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace mempool {

/// Two namespaces, each held by a process, gone with it. Thread: confined.
class NetworkNamespaces {
 public:
  static constexpr char kFirstHost[] = "10.77.0.1";
  static constexpr char kSecondHost[] = "10.77.0.2";
  static constexpr char kNobodysHost[] = "10.77.0.3";  // on the same link

  NetworkNamespaces();
  ~NetworkNamespaces();

  /// Why there are none here; empty when there are.
  const std::string& refusal() const { return refusal_; }
  /// The command that runs another in the first namespace (0) or the second (1).
  std::vector<std::string> under(size_t which) const;

 private:
  /// Fork a process that waits inside a namespace of its own.
  bool hold(size_t which);
  /// Run a command in one of them; false, and refusal(), when it fails.
  bool run(size_t which, const std::string& command);

  std::string refusal_;
  pid_t holders_[2] = {-1, -1};
};

}  // namespace mempool
