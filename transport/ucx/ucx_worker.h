// SPDX-License-Identifier: Apache-2.0
// Owns a worker of UCX: the queue pairs and sockets of one connection, driven by its descriptor.
// Each connection has one of its own at both ends, so that the end of a worker is the end of all
// that a peer can do here.
#pragma once

#include <ucp/api/ucp.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/descriptor.h"
#include "mempool/status.h"
#include "transport/loop.h"
#include "transport/ucx/ucx_context.h"

namespace mempool {

/// Put what UCX says of it into `said`, where given. Errors: kResourceExhausted, kUnavailable.
Result<UcxWorkerHandle> make_ucx_worker(ucp_context_h context, std::string* said = nullptr);
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

/// Shared, because its owner may let go of it from inside one of its turns.
/// Thread: confined to the loop's thread.
class UcxWorker : public std::enable_shared_from_this<UcxWorker> {
 public:
  /// Errors: kResourceExhausted, kUnavailable.
  static Result<std::shared_ptr<UcxWorker>> open(UcxContext& context, Loop& loop,
                                                 UcxWorkerOwner& owner);
  UcxWorker(UcxContext& context, UcxWorkerHandle worker, int events, Descriptor timer, Loop& loop,
            UcxWorkerOwner& owner);
  ~UcxWorker() { close(); }

  ucp_worker_h handle() const { return worker_.get(); }
  /// Make progress soon: something was posted.
  void drive() { task_->schedule(); }
  /// Say that the peer's worker was heard: the connection is made.
  void greeted() { greeted_ = true; }
  /// Destroy it: its queue pairs are in error and its sockets closed when this returns, so that no
  /// byte of the peer lands any more. What is posted is called back from inside.
  void close();

 private:
  void turn(bool woken);  // by its descriptor
  void watch();
  void pause();

  UcxContext& context_;
  Loop& loop_;
  UcxWorkerHandle worker_;  // null once closed
  const int events_;        // UCX's descriptor
  UcxWorkerOwner& owner_;   // not touched once closed
  const Descriptor timer_;  // of pauses
  bool greeted_ = false;
  int idle_wakes_ = 0;  // in a row, without progress
  std::unique_ptr<LoopTask> task_;
  std::unique_ptr<LoopWatch> watch_;  // of its descriptor, or of the timer
};

}  // namespace mempool
