// SPDX-License-Identifier: Apache-2.0
// Owns the checks that stand between a peer's bytes and their use.
#include "transport/tcp/frame.h"

#include <fmt/format.h>

#include "transport/little_endian.h"

namespace mempool {
namespace {

constexpr uint16_t kFlagRefused = 1;

// What a frame of each type must have: ranges or none, bytes or none.
bool counts_fit(const FrameHeader& header) {
  switch (header.type) {
    case FrameType::kWrite:
    case FrameType::kRead:
      return header.ranges > 0 && header.bytes > 0;
    case FrameType::kReadReply:
      return header.ranges == 0 && header.bytes > 0;
    case FrameType::kNotify:
    case FrameType::kReadEnd:
      return header.ranges == 0 && header.bytes == 0;
  }
  return false;  // no such type
}

}  // namespace

void encode_frame_header(const FrameHeader& header, std::byte* out) {
  LittleEndianWriter(out)
      .put(kFrameMagic)
      .put(kFrameVersion)
      .put(static_cast<uint8_t>(header.type))
      .put(header.refused ? kFlagRefused : uint16_t{0})
      .put(header.slot.index)
      .put(header.slot.generation)
      .put(header.tag)
      .put(header.ranges)
      .put(header.bytes);
}

void encode_frame_range(const FrameRange& range, std::byte* out) {
  LittleEndianWriter(out).put(range.region).put(range.offset).put(range.bytes);
}

Result<FrameHeader> decode_frame_header(std::span<const std::byte, kFrameHeaderBytes> in) {
  LittleEndianReader reader(in.data());
  const auto magic = reader.get<uint32_t>();
  const auto version = reader.get<uint8_t>();
  if (magic != kFrameMagic) {
    return invalid_argument(fmt::format("malformed frame: magic {:08x} is not ours", magic));
  }
  if (version != kFrameVersion) {
    return invalid_argument(fmt::format(
        "frame of version {}, this end speaks {}; upgrade the older", version, kFrameVersion));
  }
  FrameHeader header;
  header.type = static_cast<FrameType>(reader.get<uint8_t>());
  const auto flags = reader.get<uint16_t>();
  header.slot.index = reader.get<uint32_t>();
  header.slot.generation = reader.get<uint32_t>();
  header.tag = reader.get<uint64_t>();
  header.ranges = reader.get<uint32_t>();
  header.bytes = reader.get<uint32_t>();
  header.refused = flags == kFlagRefused;
  if (flags != 0 && !(header.refused && header.type == FrameType::kReadEnd)) {
    return invalid_argument(fmt::format("malformed frame: flags {:04x}", flags));
  }
  if (header.ranges > kFrameRangesMax || header.bytes > kTcpFrameBytesMax) {
    return invalid_argument(
        fmt::format("oversized frame: {} ranges and {} bytes, at most {} and {}", header.ranges,
                    header.bytes, kFrameRangesMax, kTcpFrameBytesMax));
  }
  if (!counts_fit(header)) {
    return invalid_argument(fmt::format("malformed frame: type {} with {} ranges and {} bytes",
                                        static_cast<int>(header.type), header.ranges,
                                        header.bytes));
  }
  return header;
}

Status decode_frame_ranges(const FrameHeader& header, std::span<const std::byte> in,
                           std::vector<FrameRange>& out) {
  out.clear();
  LittleEndianReader reader(in.data());
  uint64_t sum = 0;  // at most kFrameRangesMax times 2^32: cannot wrap
  for (uint32_t i = 0; i < header.ranges; ++i) {
    FrameRange range;
    range.region = reader.get<uint32_t>();
    range.offset = reader.get<uint64_t>();
    range.bytes = reader.get<uint32_t>();
    if (range.bytes == 0)
      return invalid_argument(fmt::format("malformed frame: range {} is empty", i));
    sum += range.bytes;
    out.push_back(range);
  }
  if (sum == header.bytes || header.ranges == 0) return {};
  return invalid_argument(
      fmt::format("malformed frame: ranges of {} bytes in all for {} bytes", sum, header.bytes));
}

}  // namespace mempool
