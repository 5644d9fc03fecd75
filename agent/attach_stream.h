// SPDX-License-Identifier: Apache-2.0
// Owns one socket between an agent and an engine attached to it: frames, and the descriptors that
// come along with one.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <vector>

#include "agent/attach_frame.h"
#include "core/descriptor.h"

namespace mempool {

/// Waits where its socket waits: the engine's does, the agent's does not. Thread: serialized;
/// sending and receiving may be two threads'.
class AttachStream {
 public:
  explicit AttachStream(Descriptor socket) : socket_(std::move(socket)) {}

  int descriptor() const { return socket_.number(); }
  /// Queue a frame.
  void queue(const AttachFrame& frame, std::vector<Descriptor> descriptors = {});
  /// Send what is queued. False when the socket takes no more now. Errors: kUnavailable.
  Result<bool> flush();
  bool all_sent() const { return outgoing_.empty(); }
  /// Take the next frame that has come whole. Errors: kCorruption.
  Result<std::optional<AttachFrame>> next();
  /// Receive some bytes. False when none are here now. Errors: kUnavailable.
  Result<bool> receive();
  /// Tell whether bytes are here that next() has not taken.
  bool has_more() const { return begin_ != end_; }
  /// Descriptors that have come; the last ones perhaps with the frame after the one taken.
  size_t descriptors() const { return descriptors_.size(); }
  /// Take the descriptors that have come.
  std::vector<Descriptor> take_descriptors() { return std::exchange(descriptors_, {}); }

 private:
  struct Outgoing {
    std::vector<std::byte> bytes;
    std::vector<Descriptor> descriptors;
    size_t sent = 0;
    size_t descriptors_sent = 0;
  };

  Descriptor socket_;
  std::deque<Outgoing> outgoing_;
  std::vector<std::byte> incoming_;  // from begin_ to end_
  size_t begin_ = 0;
  size_t end_ = 0;
  std::vector<Descriptor> descriptors_;
};

}  // namespace mempool
