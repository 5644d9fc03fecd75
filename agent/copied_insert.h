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

/// Insert `blocks`, those at the positions of `copied` as copies of the pool's; `held` are pinned
/// blocks that are published for the first positions already, and are let go. The copied ones come
/// back as duplicates. Errors: those of alloc() and of `insert`, with nothing changed.
Result<InsertResult> insert_copies(Pool& pool, std::span<const BlockAddress> blocks,
                                   const std::vector<bool>& copied, std::vector<BlockAddress> held,
                                   const InsertList& insert);

}  // namespace mempool
