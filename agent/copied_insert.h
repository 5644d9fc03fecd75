// SPDX-License-Identifier: Apache-2.0
// Owns the inserting of blocks that stay their engine's: what is published is a copy.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "mempool/pool.h"

namespace mempool {

/// Publishes a list of blocks, none of which is to be copied.
using InsertList = std::function<Result<InsertResult>(std::span<const BlockAddress>)>;

/// Give those blocks of a list that are copied.
std::vector<BlockAddress> copied_blocks(std::span<const BlockAddress> blocks,
                                        const std::vector<bool>& copied);

/// Lets go of the blocks that are copied.
using EndCopy = std::function<void(std::span<const BlockAddress>)>;

/// Insert `blocks`, those at the positions of `copied` as copies of the pool's; these come back as
/// duplicates. Where no position is, this is `insert`. What `prompt` matches is not copied again;
/// null for keys. Errors: those of alloc() and of `insert`, with nothing changed.
/// Requires: the blocks that are copied are held until `end_copy`.
Result<InsertResult> insert_copies(Pool& pool, std::span<const BlockAddress> blocks,
                                   const std::vector<bool>& copied, const Prompt* prompt,
                                   const InsertList& insert, const EndCopy& end_copy);

}  // namespace mempool
