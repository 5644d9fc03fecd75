// SPDX-License-Identifier: Apache-2.0
// Owns the door of an engine that runs beside its agent, in another process.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "mempool/content.h"
#include "mempool/export.h"
#include "mempool/pool.h"

namespace mempool {

struct AttachOptions {
  std::string path;                    // of the agent's socket, its setting agent.engine_socket
  uint32_t shard = 0;                  // this rank of the engine; the first one receives arrivals
  uint32_t shards = 1;                 // of the engine
  std::optional<Placement> placement;  // whose form and order the engine expects
  std::chrono::milliseconds timeout{5000};  // for the agent's welcome
};

/// Attach to the agent of this host, as a process of the same user, and map its pool: pieces are
/// read and written where they lie, without a copy, and each other call is one round trip. Starts
/// one thread, which waits for the ends of transfers and for arrivals. Once the agent has gone,
/// match() and erase() find nothing and every other call gives kUnavailable; attach anew then. The
/// end of the pool, or of the process, gives back every block it holds and takes back its
/// transfers. A forked child must not use it. Each rank maps all shards and fills its own; the one
/// that inserts or sends the blocks does so for all, when all have filled theirs.
/// Errors: kUnavailable when no agent answers; kAlreadyExists when another process has this rank;
/// kInvalidArgument for ranks or a placement that are not the agent's; kPermissionDenied for
/// another user; kUnsupported for an agent of another version.
MEMPOOL_EXPORT Result<std::unique_ptr<Pool>> attach(const AttachOptions& options);

}  // namespace mempool
