// SPDX-License-Identifier: Apache-2.0
// Owns the waiting for a device: completion events, and what the device says of itself.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "mempool/status.h"
#include "transport/loop.h"
#include "transport/verbs/verbs_device.h"

namespace mempool {

class CompletionChannel;

/// What takes the entries of a completion queue. Thread: confined, as its channel.
class CompletionHandler {
 public:
  virtual ~CompletionHandler() = default;
  /// One work request ended. May not destroy the queue.
  virtual void on_work(const ibv_wc& work) = 0;
  /// The queue is empty for now; called after one or more on_work().
  virtual void on_drained() = 0;
};

/// A completion queue and whoever takes its entries. Its queue pairs go before it does.
/// Thread: confined to the loop's thread.
class CompletionQueue {
 public:
  /// Make one whose entries wake the loop; without `wakes` it is looked at while set_due() alone.
  /// Errors: kResourceExhausted with the device's reason.
  static Result<std::unique_ptr<CompletionQueue>> create(const VerbsDevice& device,
                                                         CompletionChannel& channel,
                                                         uint32_t entries, bool wakes,
                                                         CompletionHandler& handler);
  ~CompletionQueue();

  ibv_cq* get() const { return handle_.get(); }
  /// Take all entries that there are.
  void drain();
  /// With the option `spin`: look for entries in each turn of the loop while something is due.
  void set_due(bool due);

 private:
  friend class CompletionChannel;
  CompletionQueue(CompletionChannel& channel, CompletionHandler& handler)
      : channel_(channel), handler_(&handler) {}
  void on_event();

  CompletionChannel& channel_;
  CompletionHandler* handler_;  // null while this goes
  CompletionHandle handle_;
  uint32_t unacknowledged_ = 0;  // events; the device's library waits for them at the end
  bool due_ = false;
};

/// One channel a device; wakes its queues by the channel's descriptor. Its queues go before it.
/// Thread: confined to the loop's thread.
class CompletionChannel {
 public:
  /// Errors: kResourceExhausted with the kernel's reason.
  static Result<std::unique_ptr<CompletionChannel>> create(const VerbsDevice& device, Loop& loop,
                                                           bool spin);

  /// Call when the device has failed as a whole; nothing comes from it any more.
  void on_failure(std::function<void()> action) { failed_ = std::move(action); }
  ibv_comp_channel* get() const { return handle_.get(); }
  bool spins() const { return spin_; }

 private:
  friend class CompletionQueue;

  CompletionChannel(const VerbsDevice& device, bool spin) : device_(device), spin_(spin) {}
  Status open(Loop& loop);
  void take_events();
  void take_reports();
  void spin();

  const VerbsDevice& device_;
  const bool spin_;
  ChannelHandle handle_;
  std::unique_ptr<LoopWatch> events_;   // of the channel
  std::unique_ptr<LoopWatch> reports_;  // of the device: ports up and down, failures
  std::unique_ptr<LoopTask> spinning_;
  std::function<void()> failed_;
  std::vector<CompletionQueue*> due_;
};

}  // namespace mempool
