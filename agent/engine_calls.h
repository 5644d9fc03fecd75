// SPDX-License-Identifier: Apache-2.0
// Owns the calls of one engine, whichever process it is in, from where its blocks are hashed: each
// takes the agent's short lock and asks pool, index or machine.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "agent/message.h"
#include "agent/source_machine.h"
#include "agent/transfer.h"
#include "index/local_index.h"
#include "mempool/agent.h"

namespace mempool {

/// Give sums as the index takes them.
std::vector<Seal> seals_of(std::span<const SealedSum> sums);

/// What a caller asks is described at Pool's calls of the same names. Thread: safe.
class EngineCalls {
 public:
  /// Blocks are pinned by `session`. Requires: `impl` outlives it.
  EngineCalls(Agent::Impl& impl, SessionId session) : impl_(impl), session_(session) {}

  // ---- blocks ----
  Result<std::vector<BlockAddress>> alloc(size_t count, Medium medium);
  Status free(std::span<const BlockAddress> blocks);
  Status pin(std::span<const BlockAddress> blocks);
  Status unpin(std::span<const BlockAddress> blocks);
  Result<std::vector<BlockAddress>> claim(const std::string& name,
                                          std::span<const uint32_t> blocks);
  /// Tell which blocks of a list are inserted as copies, empty for none, and hold those, so that
  /// nobody writes into them. Each success needs one end_copy() of those. Errors: kStale;
  /// kInvalidArgument for one that the engine does not hold, or whose bytes are not its to insert.
  Result<std::vector<bool>> begin_copy(std::span<const BlockAddress> blocks);
  void end_copy(std::span<const BlockAddress> copied);
  /// Hold a sealed block while it is copied out, and give the sum that its bytes must have, where
  /// there is one. Each success needs one end_read(). Errors: kStale; kInvalidArgument for a block
  /// that is not sealed.
  Result<std::optional<uint64_t>> begin_read(const BlockAddress& block);
  /// Let go; a block whose bytes were not those sealed is set aside.
  void end_read(const BlockAddress& block, bool corrupt);

  // ---- index ----
  Result<InsertResult> insert(const Prompt& prompt, std::span<const BlockAddress> blocks,
                              std::span<const SealedSum> sums);
  MatchResult match(const Prompt& prompt);
  size_t erase(const Prompt& prompt);
  Result<InsertResult> insert_keys(std::span<const ContentId> keys,
                                   std::span<const BlockAddress> blocks,
                                   std::span<const SealedSum> sums);
  std::vector<BlockAddress> match_keys(std::span<const ContentId> keys);
  size_t erase_keys(std::span<const ContentId> keys);

  // ---- transfers ----
  /// Start what `state` stands for; it has the source's blocks. By layer there are no sums yet.
  /// Errors: those of the call that come at once.
  Status transfer_with_insert(const std::string& target, const Prompt& prompt,
                              std::vector<SealedSum> sums, const TransferOptions& options,
                              const std::shared_ptr<Transfer::State>& state);
  /// The same, to places that `places` names.
  Status transfer(const std::string& target, std::span<const BlockAddress> places,
                  std::vector<SealedSum> sums, const TransferOptions& options,
                  const std::shared_ptr<Transfer::State>& state);
  /// Have a peer hold blocks; the report's `serving` will have them.
  Status reserve(const std::string& instance, size_t count, const TransferOptions& options,
                 const std::shared_ptr<Transfer::State>& state);
  Status fetch(const std::string& source, const Prompt& prompt, const TransferOptions& options,
               const std::shared_ptr<Transfer::State>& state);
  /// All layers of a transfer are ready, and these are the sums of its blocks that were not
  /// published at the start.
  void commit(const Transfer::State& call, std::vector<SealedSum> sums);
  /// An arrival was taken by the engine.
  void on_received();
  void add_peer(const std::string& name, const std::string& address);

 private:
  /// Errors: kInvalidArgument for blocks that are inserted as copies only. Requires: the lock.
  Status check_in_place(std::span<const BlockAddress> blocks) const;
  Result<InsertResult> inserted(Result<InsertOutcome> outcome,
                                std::span<const BlockAddress> blocks);
  /// Send the state's blocks. Takes the agent's lock.
  Status start(const std::string& target, TransferRequest request, std::vector<SealedSum> sums,
               const TransferOptions& options, const std::shared_ptr<Transfer::State>& state);
  /// Requires: the agent's lock is held, here and below.
  Status find_room(const std::string& source, const TransferOptions& options, TimePoint now,
                   Transfer::State& state);

  Agent::Impl& impl_;
  const SessionId session_;
};

}  // namespace mempool
