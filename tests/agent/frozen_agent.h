// SPDX-License-Identifier: Apache-2.0
// Owns the freezing of an agent of this process: its thread stands still, as a stopped process
// does, while its calls can still be made.
#pragma once

#include <future>
#include <memory>
#include <span>

#include <gtest/gtest.h>

#include "mempool/agent.h"

namespace mempool::testing {

/// Holds the agent's thread in the callback of a call that was cancelled, which no caller may do;
/// lets it go when it ends. Thread: confined.
class FrozenAgent {
 public:
  /// Ask for it; the thread stands still once stand_still() has returned, after whatever was asked
  /// of the agent before.
  FrozenAgent(Agent& agent, const Prompt& prompt, std::span<const BlockAddress> blocks) {
    agent.add_peer("nobody", "127.0.0.1:1");
    TransferOptions options;
    options.on_done = [state = state_](const Status&) {
      state->still.set_value();
      state->go_on.get_future().wait();
    };
    auto transfer = agent.transfer_with_insert("nobody", prompt, blocks, options);
    EXPECT_TRUE(transfer.ok()) << transfer.status().to_string();
    if (transfer.ok()) transfer->cancel();
  }
  ~FrozenAgent() { state_->go_on.set_value(); }

  void stand_still() { state_->still.get_future().wait(); }

 private:
  struct State {
    std::promise<void> still;
    std::promise<void> go_on;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();  // shared with the callback
};

}  // namespace mempool::testing
