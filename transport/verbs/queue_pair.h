// SPDX-License-Identifier: Apache-2.0
// Owns one reliable connected queue pair: its making, its way to the other side's, and its end.
#pragma once

#include <cstdint>

#include "transport/verbs/verbs_device.h"

namespace mempool {

/// What the other side needs of a queue pair.
struct QueueAddress {
  uint32_t number = 0;
  uint32_t sequence = 0;  // of its first packet
};

/// How large a queue pair is made.
struct QueueShape {
  uint32_t sends = 1;
  uint32_t pieces = 1;  // of one send
  bool reached = true;  // the other side may write and read our memory by it
};

/// Thread: confined.
class QueuePair {
 public:
  QueuePair() = default;
  /// Make one, ready to be connected. It completes into `completions`; with `receives` it takes
  /// notifications from there. Errors: kResourceExhausted or kUnavailable with the device's reason.
  static Result<QueuePair> create(const VerbsDevice& device, const VerbsOptions& options,
                                  ibv_cq* completions, ibv_srq* receives, const QueueShape& shape);

  /// Connect it to the other side's queue pair. Errors: kUnsupported where the two ports do not
  /// match, saying how; kUnavailable with the device's reason.
  Status connect(const PortAddress& port, const QueueAddress& queue);
  /// Move it to error: nothing is sent or served by it any more. What it had received is still to
  /// be taken from its completion queue.
  void stop();
  /// Break it: nothing of it lands any more when this returns, and of what was posted on it and has
  /// not been taken from its completion queue nothing is told.
  void destroy();

  explicit operator bool() const { return handle_ != nullptr; }
  ibv_qp* get() const { return handle_.get(); }
  QueueAddress address() const { return {handle_->qp_num, sequence_}; }

 private:
  Status initialize(bool reached);
  Status ready_to_receive(const PortAddress& port, const QueueAddress& queue, uint32_t mtu);
  Status ready_to_send(const PortAddress& port);

  const VerbsDevice* device_ = nullptr;
  const VerbsOptions* options_ = nullptr;
  uint32_t sequence_ = 0;
  QueueHandle handle_;
};

/// How many pieces a send and a read may have.
struct GrantedPieces {
  uint32_t send = 1;
  uint32_t read = 1;
};
/// Ask the device, by making a queue pair of that shape. Errors: kInvalidArgument, naming the key,
/// for a deeper queue than it has; those of create().
Result<GrantedPieces> granted_pieces(const VerbsDevice& device, const VerbsOptions& options);

}  // namespace mempool
