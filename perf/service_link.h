// SPDX-License-Identifier: Apache-2.0
// Owns the client's half of a connection to `mempool perf serve` on another host.
#pragma once

#include <cstdint>
#include <string>

#include "mempool/status.h"
#include "perf/channel.h"
#include "perf/transfer_case.h"

namespace mempool {

/// What the two ends say to each other after the proofs; both have to speak the same.
inline constexpr uint64_t kServiceVersion = 1;
inline constexpr char kServicePurpose[] = "perf:control";

/// A proven connection, good for one case, and where its other end is. Thread: confined.
struct ServiceLink {
  Channel channel;
  TransferSite site;
};

/// Connect to the service at "host:port" with what `own` has but the host, and wait for its turn
/// there: it serves one client at a time. Errors: kUnavailable; kPermissionDenied for another
/// token; kUnsupported for another version.
Result<ServiceLink> dial_service(const std::string& address, const TransferSite& own);

/// The numeric hosts of a connected socket.
struct SocketHosts {
  std::string near;
  std::string far;
};

/// Errors: kUnavailable.
Result<SocketHosts> hosts_of(int descriptor);

}  // namespace mempool
