// SPDX-License-Identifier: Apache-2.0
// Owns a worker of UCX: the queue pairs and sockets of one connection, driven by its descriptor.
// Each connection has one of its own at both ends, so that the end of a worker is the end of all
// that a peer can do here.
#pragma once

#include <ucp/api/ucp.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "mempool/status.h"

namespace mempool {

struct UcxWorkerDestroy {
  void operator()(ucp_worker_h worker) const { ucp_worker_destroy(worker); }
};
using UcxWorkerHandle = std::unique_ptr<std::remove_pointer_t<ucp_worker_h>, UcxWorkerDestroy>;

/// Errors: kResourceExhausted, kUnavailable.
Result<UcxWorkerHandle> make_ucx_worker(ucp_context_h context);
/// Give what a peer needs to connect to the worker.
Result<std::vector<std::byte>> ucx_address_of(ucp_worker_h worker);

/// The messages that our workers send each other.
enum class UcxMessage : unsigned {
  kNotice = 1,  // of a slot's writes: its index, then its generation
  kHello = 2,   // empty, and answered by the same: both ends are connected
};
using UcxNotice = std::array<uint32_t, 2>;

/// Call `hear(argument, ...)` for each message of the kind. Errors: kResourceExhausted.
Status hear_ucx(ucp_worker_h worker, UcxMessage kind, ucp_am_recv_callback_t hear, void* argument);

/// Greet the worker at the other end, which can answer.
ucs_status_t send_ucx_hello(ucp_ep_h endpoint);

/// What a worker tells. Thread: confined, as its worker.
class UcxWorkerOwner {
 public:
  virtual ~UcxWorkerOwner() = default;
  /// The worker made progress, and is outside of all calls. Its owner may close it.
  virtual void on_progress() = 0;
  /// It will make no more.
  virtual void on_broken(const Status& why) = 0;
};

/// Shared, because a handler that waits for its descriptor may run after its owner is gone.
/// Thread: confined to the io_context's thread.
class UcxWorker : public std::enable_shared_from_this<UcxWorker> {
 public:
  /// Errors: kResourceExhausted, kUnavailable.
  static Result<std::shared_ptr<UcxWorker>> open(ucp_context_h context, boost::asio::io_context& io,
                                                 UcxWorkerOwner& owner);
  UcxWorker(UcxWorkerHandle worker, boost::asio::io_context& io, UcxWorkerOwner& owner)
      : io_(io), worker_(std::move(worker)), owner_(owner), ready_(io), pause_(io) {}
  ~UcxWorker() { close(); }

  ucp_worker_h handle() const { return worker_.get(); }
  /// Make progress soon: something was posted.
  void drive();
  /// Destroy it: its queue pairs are in error and its sockets closed when this returns, so that no
  /// byte of the peer lands any more. What is posted is called back from inside.
  void close();
  bool closed() const { return worker_ == nullptr; }

 private:
  void turn(bool woken);  // by the descriptor
  void wait();

  boost::asio::io_context& io_;
  UcxWorkerHandle worker_;  // null once closed
  UcxWorkerOwner& owner_;   // not touched once closed
  boost::asio::posix::stream_descriptor ready_;
  boost::asio::steady_timer pause_;
  bool driven_ = false;
  bool waiting_ = false;
  int idle_wakes_ = 0;  // in a row, without progress
};

}  // namespace mempool
