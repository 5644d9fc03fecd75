// SPDX-License-Identifier: Apache-2.0
// Owns the waiting for a device: completion events, and what the device says of itself.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <memory>
#include <utility>
#include <vector>

#include "mempool/status.h"
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
/// Thread: confined to the io_context's thread.
class CompletionQueue {
 public:
  /// Errors: kResourceExhausted with the device's reason.
  static Result<std::unique_ptr<CompletionQueue>> create(const VerbsDevice& device,
                                                         CompletionChannel& channel,
                                                         uint32_t entries,
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
/// Thread: confined to the io_context's thread.
class CompletionChannel {
 public:
  /// Errors: kResourceExhausted with the kernel's reason.
  static Result<std::unique_ptr<CompletionChannel>> create(const VerbsDevice& device,
                                                           boost::asio::io_context& io, bool spin);
  ~CompletionChannel();

  ibv_comp_channel* get() const { return handle_.get(); }
  bool spins() const { return spin_; }
  /// Run `action` in a later turn of the loop, unless the owner of `alive` goes first.
  template <typename Action>
  void later(std::weak_ptr<void> alive, Action action) {
    boost::asio::post(io_, [alive = std::move(alive), action = std::move(action)] {
      if (!alive.expired()) action();
    });
  }

 private:
  friend class CompletionQueue;
  struct Alive {};

  CompletionChannel(const VerbsDevice& device, boost::asio::io_context& io, bool spin)
      : device_(device), io_(io), spin_(spin), events_(io), reports_(io) {}
  Status open();
  void wait_for_events();
  void wait_for_reports();
  void take_events();
  void take_reports();
  void spin_on();

  const VerbsDevice& device_;
  boost::asio::io_context& io_;
  const bool spin_;
  ChannelHandle handle_;
  boost::asio::posix::stream_descriptor events_;   // of the channel
  boost::asio::posix::stream_descriptor reports_;  // of the device: ports up and down, failures
  std::vector<CompletionQueue*> due_;
  bool spinning_ = false;
  // Shared with nobody: handlers hold it weakly and look whether this is still here.
  std::shared_ptr<Alive> alive_ = std::make_shared<Alive>();
};

}  // namespace mempool
