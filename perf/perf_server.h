// SPDX-License-Identifier: Apache-2.0
// Owns the process behind `mempool perf serve`: clients wait in line, each gets a process.
#pragma once

#include <functional>
#include <string>

#include "mempool/status.h"
#include "perf/transfer_case.h"

namespace mempool {

/// Listen on "host:port", say which was bound, and serve until SIGTERM or SIGINT, which end the
/// case under way too. Each client has a fork of this process, so that nothing that happens to one
/// reaches the next; one at a time, for two measurements would disturb each other. A line on
/// standard output tells of each. Requires: no thread but this one runs. Errors: those of
/// listen_on(); kUnavailable when nothing can be served any more.
Status run_perf_server(const std::string& listen, const TransferSite& own,
                       const std::function<void(const std::string& address)>& on_ready);

}  // namespace mempool
