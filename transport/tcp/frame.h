// SPDX-License-Identifier: Apache-2.0
// Owns the bytes of a frame on a tcp data connection, both ways, without any socket.
//
// A frame is a header of 32 bytes, then `ranges` ranges of 16, then the payload; little-endian:
//   header  magic u32 | version u8 | type u8 | flags u16 | slot index u32 | slot generation u32 |
//           tag u64 | ranges u32 | bytes u32
//   range   region u32 | offset u64 | bytes u32
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "mempool/status.h"
#include "transport/transport.h"

namespace mempool {

inline constexpr uint32_t kFrameMagic = 0x3146504d;  // "MPF1"
inline constexpr uint8_t kFrameVersion = 1;
inline constexpr size_t kFrameHeaderBytes = 32;
inline constexpr size_t kFrameRangeBytes = 16;
/// One less than IOV_MAX, so that one readv takes a frame's ranges and what follows them.
inline constexpr uint32_t kFrameRangesMax = 1023;
inline constexpr uint32_t kTcpFrameBytesMax = 4u << 20;

enum class FrameType : uint8_t {
  kWrite = 1,      // ranges of the receiver, then their bytes
  kNotify = 2,     // the slot's writes on this stream are before it
  kRead = 3,       // ranges of the receiver, which it answers with the next two
  kReadReply = 4,  // the bytes asked for under this tag
  kReadEnd = 5,    // the reply is whole, or refused
};

struct FrameHeader {
  FrameType type = FrameType::kWrite;
  bool refused = false;  // of a kReadEnd: the slot is not open, what came is void
  Slot slot;
  uint64_t tag = 0;  // the sender's word for a call; comes back with a reply
  uint32_t ranges = 0;
  uint32_t bytes = 0;  // sum of the ranges, or the payload of a reply

  /// Bytes that follow header and ranges.
  uint32_t payload_bytes() const {
    return type == FrameType::kWrite || type == FrameType::kReadReply ? bytes : 0;
  }
  bool operator==(const FrameHeader&) const = default;
};

struct FrameRange {
  uint32_t region = 0;
  uint64_t offset = 0;
  uint32_t bytes = 0;
  bool operator==(const FrameRange&) const = default;
};

void encode_frame_header(const FrameHeader& header, std::byte* out);
void encode_frame_range(const FrameRange& range, std::byte* out);

/// Errors: kInvalidArgument for another magic, version, type or flag, and for counts that the type
/// cannot have or that pass the limits; nothing of the frame may be used then.
Result<FrameHeader> decode_frame_header(std::span<const std::byte, kFrameHeaderBytes> in);

/// Replace `out` by the header's ranges. Requires: `in` holds header.ranges of them.
/// Errors: kInvalidArgument for an empty range or a sum other than header.bytes.
Status decode_frame_ranges(const FrameHeader& header, std::span<const std::byte> in,
                           std::vector<FrameRange>& out);

}  // namespace mempool
