// SPDX-License-Identifier: Apache-2.0
// Owns the record of one change to an index, from which events and the global tree are made.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "mempool/content.h"
#include "mempool/types.h"

namespace mempool {

/// One mutation of a local index. Spans borrow for the length of the sink's call.
struct ChangeRecord {
  enum class Kind : uint8_t { kStored, kRemoved };
  Kind kind = Kind::kStored;
  uint64_t sequence = 0;  // 1, 2, 3... per index, without a gap
  ContentId root;
  std::span<const TokenId> parent;  // the tokens before
  std::span<const TokenId> tokens;  // whole blocks that came or went, in order
  Medium medium = Medium::kHost;
};

using ChangeSink = std::function<void(const ChangeRecord&)>;

}  // namespace mempool
