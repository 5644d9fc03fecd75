// SPDX-License-Identifier: Apache-2.0
// Owns the receiving side of a tcp data connection: says where the next bytes of the stream belong,
// so that payload is read straight into place, and cuts frames out of what came.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "mempool/status.h"
#include "transport/tcp/frame.h"

namespace mempool {

/// Whether a frame's payload is kept.
enum class Landing : uint8_t { kPlace, kDiscard };

/// Decides where payload goes. Thread: confined, as its reader.
class FrameHandler {
 public:
  virtual ~FrameHandler() = default;
  /// A frame's header and ranges have come: fill the empty `places` with where its payload goes,
  /// payload_bytes() in all unless it is discarded. A failed result breaks the stream.
  virtual Result<Landing> on_head(const FrameHeader& header, std::span<const FrameRange> ranges,
                                  std::vector<iovec>& places) = 0;
  /// All of a frame has come, and lies in place if `landing` says so.
  virtual Status on_frame(const FrameHeader& header, Landing landing) = 0;
};

/// A caller asks prepare() for places, reads from the socket into them, and tells advance() how
/// much came. One read takes the rest of a payload and, behind it, the beginning of what follows,
/// into a buffer; only payload that came along with its own header is copied. Invariant: while
/// payload is awaited the buffer is empty. Thread: confined.
class FrameReader {
 public:
  static constexpr size_t kPlacesMax = kFrameRangesMax + 1;

  explicit FrameReader(FrameHandler& handler);

  /// Fill `out` with where the next bytes belong and give how many entries it used, never 0.
  /// Requires: out.size() >= kPlacesMax.
  size_t prepare(std::span<iovec> out);
  /// `bytes` bytes were put there. A failed status ends the stream: nothing more may be read.
  Status advance(size_t bytes);
  /// Keep nothing more of the frame under way if it is of this slot.
  void discard(Slot slot);
  /// Tell whether a frame has begun and not ended.
  bool in_frame() const { return in_payload_ || begin_ != end_; }
  /// Tell whether payload under way goes into [base, base + bytes).
  bool lands_in(const std::byte* base, uint64_t bytes) const;

 private:
  bool begin_frame(Status& status);
  Status take_payload();
  void skip_places(const std::byte* from, size_t bytes);
  void make_room();

  FrameHandler& handler_;
  std::vector<std::byte> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;

  bool in_payload_ = false;
  FrameHeader header_;
  Landing landing_ = Landing::kDiscard;
  size_t left_ = 0;            // payload bytes that have not come
  std::vector<iovec> places_;  // for all of the payload; used up from next_place_ on
  size_t next_place_ = 0;
  std::vector<FrameRange> ranges_;
};

}  // namespace mempool
