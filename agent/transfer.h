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

/// What a fetch brings where. Every block is pinned for the caller.
struct FetchPlaces {
  Content content;
  std::vector<TokenId> tokens;       // in whole blocks
  std::vector<BlockAddress> held;    // the leading blocks, that were here
  std::vector<BlockAddress> places;  // for those that follow
};

/// Thread: safe.
struct Transfer::State : std::enable_shared_from_this<State> {
  TransferOwner* owner = nullptr;
  std::shared_ptr<Gate> gate;  // shared by all handles of an agent, which closes it before it goes
  TransferId id = 0;
  bool by_layer = false;
  std::vector<BlockAddress> source_blocks;
  std::vector<bool> published;       // by layer: which of them were so at the start,
  std::vector<SealedSum> stored;     // and their sums
  std::optional<FetchPlaces> fetch;  // of a fetch; the agent's thread takes it when the call ends
  std::function<void(const Status&)> on_done;  // under mutex, as all that follows

  std::mutex mutex;
  std::condition_variable ended;
  uint32_t fences = 0;  // that layers still wait for
  bool committed = false;
  bool done = false;
  Status status;
  TransferReport report;

  /// End the call, once, and wake whoever waits.
  void end(const Status& how, TransferReport what);
  Status send_layers(LayerRange layers, const Fence& ready);
  Status commit();

 private:
  void on_fence(LayerRange layers);
};

}  // namespace mempool
