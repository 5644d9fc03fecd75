// SPDX-License-Identifier: Apache-2.0
// Owns what is right: the bytes that KV must have, what an index must hold, and how calls may end.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/block_pool.h"
#include "core/clock.h"
#include "index/change_record.h"
#include "mempool/agent.h"
#include "mempool/content.h"
#include "tests/simulation/run.h"
#include "transport/gather_plan.h"

namespace mempool::simulation {

/// Write the KV of a prompt's block `position` into a pool block, as a model would: each vector
/// depends on the content, all tokens up to its own, layer, part and head. Where the prompt ends
/// inside the block, the rest is left as it is. Of all layers, unless some are named.
void write_kv(const BlockPool& pool, uint32_t block, const Content& content,
              std::span<const TokenId> tokens, size_t position,
              std::optional<LayerRange> layers = std::nullopt);
/// Tell whether a block holds exactly that.
bool has_kv(const BlockPool& pool, uint32_t block, const Content& content,
            std::span<const TokenId> tokens, size_t position);

/// Overwrite a freed block, so that whoever still reads it shows.
void poison(const BlockPool& pool, uint32_t block);
/// Tell whether nothing has written into it since.
bool is_poisoned(const BlockPool& pool, uint32_t block);

/// What the change records say an index holds: every published prefix, in whole blocks.
/// Thread: confined.
class IndexModel {
 public:
  explicit IndexModel(uint32_t tokens_per_block) : tokens_per_block_(tokens_per_block) {}

  void apply(const ChangeRecord& record);
  const std::map<ContentId, std::set<std::vector<TokenId>>>& prefixes() const { return prefixes_; }
  size_t blocks() const { return blocks_; }
  /// What was wrong with the records; empty when nothing was.
  const std::string& complaint() const { return complaint_; }

 private:
  uint32_t tokens_per_block_;
  std::map<ContentId, std::set<std::vector<TokenId>>> prefixes_;
  size_t blocks_ = 0;
  uint64_t sequence_ = 0;
  std::string complaint_;
};

/// Every transfer of a run and what became of it, at both ends. Thread: confined.
class Ledger {
 public:
  struct Entry {
    std::string source;
    std::string target;
    Content content;
    std::vector<TokenId> tokens;
    std::vector<BlockAddress> places;  // at the target; none where it inserts
    TimePoint deadline;
    bool ended = false;
    Status status;
    uint32_t arrivals = 0;
  };

  explicit Ledger(Run& run) : run_(run) {}

  /// Give the id under which the call travels.
  uint64_t open(Entry entry);
  /// The caller has its answer. `on_time_from`: when its process last began to run.
  void end(uint64_t id, const Status& status, const TransferReport& report, TimePoint on_time_from);
  /// The caller's process is gone, and the call with it.
  void abandon(uint64_t id) { entries_.at(id).ended = true; }
  void arrive(const Arrival& arrival);
  const Entry& entry(uint64_t id) const { return entries_.at(id); }
  size_t ended_ok() const { return ended_ok_; }
  size_t size() const { return entries_.size(); }

 private:
  Run& run_;
  std::map<uint64_t, Entry> entries_;
  size_t ended_ok_ = 0;
};

}  // namespace mempool::simulation
