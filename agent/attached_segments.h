// SPDX-License-Identifier: Apache-2.0
// Owns the segments of an agent's pool as its engine has them mapped.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <span>

#include "agent/attach_frame.h"
#include "core/block_segments.h"
#include "core/descriptor.h"
#include "mempool/status.h"

namespace mempool {

/// Thread: serialized, but for version() and table(), which follows BlockSegments' rules.
class AttachedSegments {
 public:
  /// Segments for the blocks of a rank's own process, which are brought in at once.
  explicit AttachedSegments(uint32_t rank) : rank_(rank) {}

  /// Map the segments that are new, and forget those that are gone. Errors: kCorruption for lists
  /// that are no pool's; those of MemoryMapping::map().
  Status map(const AttachWelcome& now, std::span<Descriptor> descriptors);
  /// Unmap all.
  void unmap();

  const BlockSegments& table() const { return table_; }
  /// What the agent's word behind the generations was when it listed them.
  uint64_t version() const { return version_.load(std::memory_order_acquire); }

 private:
  Result<NewSegment> make(const AttachWelcome& now, size_t which,
                          std::span<Descriptor> descriptors) const;

  const uint32_t rank_;
  BlockSegments table_;
  std::map<uint32_t, uint32_t> mapped_;  // first block of each, by the agent's region
  std::atomic<uint64_t> version_{0};
};

}  // namespace mempool
