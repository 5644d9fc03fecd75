// SPDX-License-Identifier: Apache-2.0
// Owns the state that a Transfer handle shares with the agent's thread, and what a handle asks of
// its agent.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "agent/action.h"
#include "core/descriptor.h"
#include "core/fork_mark.h"
#include "core/gate.h"
#include "mempool/agent.h"

namespace mempool {

/// What handles ask of the agent that made them. Thread: safe.
class TransferOwner {
 public:
  virtual ~TransferOwner() = default;
  virtual void cancel(TransferId transfer) = 0;
  virtual Status hand_over(TransferId transfer, LayerRange layers) = 0;
  virtual void layers_ready(TransferId transfer, LayerRange layers) = 0;
  virtual Status check_commit(TransferId transfer) = 0;
  virtual void commit(const Transfer::State& call) = 0;
};

/// What a fetch brings where. What was here is pinned for the engine that asked, the places for the
/// agent itself until the call ends: nobody else may let go of them while bytes land.
struct FetchPlaces {
  SessionId engine = kCallerSession;
  Content content;
  std::vector<TokenId> tokens;       // in whole blocks
  std::vector<BlockAddress> held;    // the leading blocks, that were here
  std::vector<BlockAddress> places;  // for those that follow
  size_t awaited = 0;                // of them, counted against the tenant's quota
};

/// Thread: safe.
struct Transfer::State : std::enable_shared_from_this<State> {
  /// Requires: `owner` lives until it has closed `gate`.
  State(TransferOwner& owner, std::shared_ptr<Gate> gate, const TransferOptions& options,
        std::span<const BlockAddress> blocks);

  const ForkMark made_in;
  TransferOwner& owner;
  const std::shared_ptr<Gate> gate;  // shared by all handles of an owner
  const bool by_layer;               // the caller hands over layers
  const bool fenced;                 // by request, but the blocks are not ready yet
  const std::vector<BlockAddress> source_blocks;
  TransferId id = 0;
  std::vector<bool> published;       // which of them were so at the start,
  std::vector<SealedSum> stored;     // and their sums
  std::optional<FetchPlaces> fetch;  // of a fetch; the agent's thread takes it when the call ends
  std::function<void(const Status&)> on_done;  // under mutex, as all that follows

  mutable std::mutex mutex;
  std::condition_variable ended;
  Descriptor event;     // raised when it ended; made when it is asked for
  uint32_t fences = 0;  // that layers still wait for
  bool committed = false;
  bool done = false;
  Status status;
  TransferReport report;

  /// End the call, once, and wake whoever waits.
  void end(const Status& how, TransferReport what);
  Status send_layers(LayerRange layers, const Fence& ready);
  Status commit();
  /// Tell whether data waits for send_layers() and commit().
  bool in_layers() const { return by_layer || fenced; }
  /// By request: move all layers when `ready` is reached. Nothing happens where it was at the
  /// start.
  void send_when(const Fence& ready, LayerRange all);
  Result<int> descriptor();
  /// Give the sums to send: `fresh` of the blocks that were not published at the start, and the
  /// stored ones of those that were, also where they have been erased since.
  std::vector<SealedSum> with_stored(std::vector<SealedSum> fresh) const;

 private:
  void on_fence(LayerRange layers);
};

/// Wait for a call that has a peer hold blocks, and give them.
Result<std::vector<BlockAddress>> held_at_peer(const Transfer& call);

}  // namespace mempool
