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
  /// Break it: nothing is sent, served or landed by it any more when this returns. Of what was
  /// posted on it and has not completed nothing is told.
  void destroy();

  explicit operator bool() const { return handle_ != nullptr; }
  ibv_qp* get() const { return handle_.get(); }
  QueueAddress address() const { return {handle_->qp_num, sequence_}; }

 private:
  Status initialize();
  Status ready_to_receive(const PortAddress& port, const QueueAddress& queue, uint32_t mtu);
  Status ready_to_send(const PortAddress& port);

  const VerbsDevice* device_ = nullptr;
  const VerbsOptions* options_ = nullptr;
  uint32_t sequence_ = 0;
  QueueHandle handle_;
};

/// Give how many pieces a send and a read of this device may have, by making a queue pair of that
/// shape. Errors: those of create().
struct GrantedPieces {
  uint32_t send = 1;
  uint32_t read = 1;
};
Result<GrantedPieces> granted_pieces(const VerbsDevice& device, const VerbsOptions& options);

}  // namespace mempool
