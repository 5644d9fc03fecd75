// SPDX-License-Identifier: Apache-2.0
// Owns the receives of one device, which all peers' notifications share.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "core/log.h"
#include "transport/verbs/completion_channel.h"
#include "transport/verbs/immediate.h"
#include "transport/verbs/queue_pair.h"

namespace mempool {

/// What takes the notifications of one peer's connection. Thread: confined.
class NotificationHandler {
 public:
  virtual ~NotificationHandler() = default;
  /// False: it belongs to nothing that is open.
  virtual bool on_notification(Immediate immediate) = 0;
};

/// Keeps as many receives posted as it has granted, and more. Its queue pairs go before it.
/// Thread: confined to the loop's thread.
class ReceiveSide final : private CompletionHandler {
 public:
  /// Errors: kResourceExhausted or kUnavailable with the device's reason.
  static Result<std::unique_ptr<ReceiveSide>> create(const VerbsDevice& device,
                                                     CompletionChannel& channel, uint32_t receives);

  /// Promise room for so many notifications. Errors: kResourceExhausted, naming the option.
  Status grant(uint32_t notifications);
  void take_back(uint32_t notifications) { granted_ -= notifications; }

  ibv_cq* completions() const { return completions_->get(); }
  ibv_srq* receives() const { return receives_.get(); }
  /// Hand what comes by this queue pair to `handler`.
  void add(const QueuePair& queue, NotificationHandler& handler);
  /// Break a queue pair. What had come by it before this is handed over first, for another queue
  /// pair may get its number.
  void end(QueuePair& queue);

  uint64_t strays() const { return strays_; }
  uint64_t taken() const { return taken_; }

 private:
  ReceiveSide(const VerbsDevice& device, uint32_t receives) : device_(device), room_(receives) {}
  Status open(CompletionChannel& channel);
  Status post_owed();
  void on_work(const ibv_wc& work) override;
  void on_drained() override;

  const VerbsDevice& device_;
  uint32_t room_ = 0;     // receives posted, at most
  uint32_t granted_ = 0;  // of them
  uint32_t owed_ = 0;     // used up and not posted again
  uint64_t taken_ = 0;
  uint64_t strays_ = 0;  // notifications that belonged to nothing
  std::unique_ptr<CompletionQueue> completions_;
  ReceiveHandle receives_;
  std::vector<ibv_recv_wr> requests_;
  std::unordered_map<uint32_t, NotificationHandler*> handlers_;  // by queue pair
  BoundedLog log_;
};

}  // namespace mempool
