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
  std::chrono::milliseconds timeout{5000};  // for the agent's welcome, and for each answer
};

/// Attach to the agent of this host, as a process of the same user, and map its pool: pieces are
/// read and written where they lie, without a copy, and each other call is one round trip. Starts
/// one thread, which waits for the ends of transfers and for arrivals and runs on_done.
///
/// Once the agent has gone, or does not answer in time, match() and erase() find nothing and every
/// other call gives kUnavailable. The end of the pool, or of the process, gives back every block it
/// holds and takes back its transfers. A forked child cannot use it, nor does its end touch it.
///
/// An engine of several ranks begins when all of them are attached, in one process or in several,
/// and ends when one of them leaves, for it may have gone amid its share of a block: from then on
/// all that allocates, inserts, sends or fetches gives kUnavailable. End the other ranks, too, and
/// attach anew; blocks are given back when the last rank is gone.
///
/// Errors: kUnavailable when no agent answers, or while an engine that has lost a rank ends;
/// kAlreadyExists when another process has this rank; kInvalidArgument for ranks or a placement
/// that are not the agent's; kPermissionDenied for another user; kUnsupported for an agent of
/// another version.
MEMPOOL_EXPORT Result<std::unique_ptr<Pool>> attach(const AttachOptions& options);

}  // namespace mempool
