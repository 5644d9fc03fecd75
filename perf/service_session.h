// SPDX-License-Identifier: Apache-2.0
// Owns what `mempool perf serve` does for one client.
#pragma once

#include <string>

#include "core/descriptor.h"
#include "mempool/status.h"
#include "perf/transfer_case.h"

namespace mempool {

/// What a session was asked for, and how that ended.
struct SessionOutcome {
  std::string client;  // its host
  std::string what;    // "write over tcp, ..."; empty when it did not get that far
  Status status;
};

/// Prove the token, then serve one case to the client, or measure one towards another service, as
/// it asks. The host of `own` is found out.
SessionOutcome serve_session(Descriptor socket, TransferSite own);

}  // namespace mempool
