// SPDX-License-Identifier: Apache-2.0
// Owns the sending side of a tcp data connection: the frames that wait, what of the first one has
// gone out, and what becomes of them when their slot is stopped.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "transport/tcp/frame.h"

namespace mempool {

/// Thread: confined, as its queue.
class FrameQueueListener {
 public:
  virtual ~FrameQueueListener() = default;
  /// All of a frame is with the kernel: its source may be reused.
  virtual void on_sent(const FrameHeader& header) = 0;
  /// A frame was stopped: nothing more of its source will be read.
  virtual void on_stopped(const FrameHeader& header) = 0;
};

/// A frame to be sent: header and ranges encoded, payload named. Thread: confined, as its queue.
class OutgoingFrame {
 public:
  /// Start anew. Keeps the capacity of what was here before.
  void start(const FrameHeader& header);
  /// Add a range of the receiver, melting it into the last one where it goes on there.
  void add_range(uint32_t region, uint64_t offset, uint64_t bytes);
  /// Add a piece of the payload, melting likewise.
  void add_piece(const std::byte* bytes, uint64_t count);
  uint32_t ranges() const { return header_.ranges; }
  uint64_t bytes() const { return bytes_; }
  size_t pieces() const { return pieces_.size(); }

 private:
  friend class FrameQueue;
  void encode();
  bool is_sent() const;

  FrameHeader header_;
  FrameRange last_range_;
  std::vector<std::byte> head_;  // header and ranges
  std::vector<iovec> pieces_;
  uint64_t bytes_ = 0;  // sum of the ranges, or of the pieces where there are none
  size_t head_sent_ = 0;
  size_t next_piece_ = 0;
  uint64_t zeros_ = 0;  // payload to be made up after a stop
};

/// Frames in order, at most `capacity`. Frames and lists keep their memory when they are reused.
/// Thread: confined.
class FrameQueue {
 public:
  FrameQueue(size_t capacity, FrameQueueListener& listener);

  bool empty() const { return order_.empty(); }
  /// Give a frame to be filled and pushed at once, or null when `capacity` wait.
  OutgoingFrame* draft();
  /// Queue the frame that draft() gave last; a draft that is not pushed is forgotten.
  void push();
  /// Fill `out` with what is to be sent next, at most about `bytes_max`; give the entries used.
  size_t gather(std::span<iovec> out, size_t bytes_max);
  /// `bytes` of that were sent.
  void advance(size_t bytes);
  /// Send nothing more of a slot: frames not begun go, the rest of one that has is made up of
  /// zeros. A read's end stays and says that the reply is refused.
  void stop(Slot slot);
  /// Tell whether payload is still to be read from [base, base + bytes).
  bool sends_from(const std::byte* base, uint64_t bytes) const;

 private:
  bool stop_frame(OutgoingFrame& frame);

  FrameQueueListener& listener_;
  std::vector<OutgoingFrame> frames_;
  std::vector<uint16_t> order_;  // of frames_, the next to be sent first
  std::vector<uint16_t> spare_;  // of frames_; the last one is drafted next
};

}  // namespace mempool
