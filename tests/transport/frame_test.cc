// SPDX-License-Identifier: Apache-2.0
// Tests that frames read back as they were written, and that nothing else is taken for one.
#include "transport/tcp/frame.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <functional>

namespace mempool {
namespace {

using HeaderBytes = std::array<std::byte, kFrameHeaderBytes>;

HeaderBytes encode(const FrameHeader& header) {
  HeaderBytes bytes;
  encode_frame_header(header, bytes.data());
  return bytes;
}

FrameHeader write_header() {
  return {FrameType::kWrite, false, {3, 9}, 77, 2, 100};
}

RC_GTEST_PROP(Frame, a_header_reads_back_as_written, ()) {
  FrameHeader header;
  header.type = *rc::gen::element(FrameType::kWrite, FrameType::kNotify, FrameType::kRead,
                                  FrameType::kReadReply, FrameType::kReadEnd);
  header.slot = {*rc::gen::arbitrary<uint32_t>(), *rc::gen::arbitrary<uint32_t>()};
  header.tag = *rc::gen::arbitrary<uint64_t>();
  if (header.type == FrameType::kWrite || header.type == FrameType::kRead) {
    header.ranges = *rc::gen::inRange<uint32_t>(1, kFrameRangesMax + 1);
  }
  if (header.ranges > 0 || header.type == FrameType::kReadReply) {
    header.bytes = *rc::gen::inRange<uint32_t>(1, kTcpFrameBytesMax + 1);
  }
  header.refused = header.type == FrameType::kReadEnd && *rc::gen::arbitrary<bool>();
  const Result<FrameHeader> read = decode_frame_header(encode(header));
  RC_ASSERT(read.ok());
  RC_ASSERT(*read == header);
}

RC_GTEST_PROP(Frame, any_header_is_read_within_the_limits_or_refused,
              (std::vector<uint8_t> noise)) {
  HeaderBytes bytes = encode(write_header());
  for (size_t i = 0; i < noise.size(); ++i) {
    bytes[(noise[i] + 5 * i) % bytes.size()] ^= std::byte{noise[i]};
  }
  const Result<FrameHeader> read = decode_frame_header(bytes);
  if (read.ok()) {
    RC_ASSERT(read->ranges <= kFrameRangesMax);
    RC_ASSERT(read->bytes <= kTcpFrameBytesMax);
    RC_ASSERT(encode(*read) == bytes);
  } else {
    RC_ASSERT(read.status().code() == StatusCode::kInvalidArgument);
  }
}

TEST(Frame, lies_as_the_wire_format_says) {
  const HeaderBytes bytes = encode(write_header());
  const std::array<uint8_t, kFrameHeaderBytes> expected = {
      'M', 'P', 'F', '1', 1, 1, 0, 0, 3, 0, 0, 0, 9,   0, 0, 0,
      77,  0,   0,   0,   0, 0, 0, 0, 2, 0, 0, 0, 100, 0, 0, 0};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(bytes[i], std::byte{expected[i]}) << i;
}

struct BadHeader {
  const char* name;
  std::function<void(FrameHeader&)> change;
};

TEST(Frame, a_header_that_its_type_cannot_have_is_refused) {
  const BadHeader cases[] = {
      {"no such type", [](FrameHeader& header) { header.type = static_cast<FrameType>(6); }},
      {"type zero", [](FrameHeader& header) { header.type = static_cast<FrameType>(0); }},
      {"a refused write", [](FrameHeader& header) { header.refused = true; }},
      {"too many ranges", [](FrameHeader& header) { header.ranges = kFrameRangesMax + 1; }},
      {"too many bytes", [](FrameHeader& header) { header.bytes = kTcpFrameBytesMax + 1; }},
      {"a write without ranges", [](FrameHeader& header) { header.ranges = 0; }},
      {"a write without bytes", [](FrameHeader& header) { header.bytes = 0; }},
      {"a notification with ranges", [](FrameHeader& header) { header.type = FrameType::kNotify; }},
      {"a reply with ranges", [](FrameHeader& header) { header.type = FrameType::kReadReply; }},
      {"a read's end with bytes", [](FrameHeader& header) { header.type = FrameType::kReadEnd; }},
  };
  EXPECT_TRUE(decode_frame_header(encode(write_header())).ok());
  for (const BadHeader& bad : cases) {
    FrameHeader header = write_header();
    bad.change(header);
    EXPECT_EQ(decode_frame_header(encode(header)).status().code(), StatusCode::kInvalidArgument)
        << bad.name;
  }
}

TEST(Frame, another_magic_or_version_is_refused) {
  HeaderBytes bytes = encode(write_header());
  bytes[0] ^= std::byte{1};
  EXPECT_EQ(decode_frame_header(bytes).status().code(), StatusCode::kInvalidArgument);
  bytes = encode(write_header());
  bytes[4] = std::byte{2};
  const Status status = decode_frame_header(bytes).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("version 2"), std::string_view::npos) << status.to_string();
}

Status decode(FrameHeader header, const std::vector<FrameRange>& ranges) {
  std::vector<std::byte> bytes(ranges.size() * kFrameRangeBytes);
  for (size_t i = 0; i < ranges.size(); ++i) {
    encode_frame_range(ranges[i], bytes.data() + i * kFrameRangeBytes);
  }
  header.ranges = static_cast<uint32_t>(ranges.size());
  std::vector<FrameRange> read = {{1, 2, 3}};  // to be replaced
  const Status status = decode_frame_ranges(header, bytes, read);
  if (status.ok()) {
    EXPECT_EQ(read, ranges);
  }
  return status;
}

TEST(Frame, ranges_read_back_and_must_add_up) {
  const FrameHeader header = write_header();
  EXPECT_TRUE(decode(header, {{1, 5, 40}, {2, UINT64_MAX, 60}}).ok());
  EXPECT_EQ(decode(header, {{1, 5, 40}, {2, 0, 61}}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(decode(header, {{1, 5, 100}, {2, 0, 0}}).code(), StatusCode::kInvalidArgument);
  // Sums that would be right if they wrapped at 32 bits.
  EXPECT_EQ(decode(header, {{1, 5, UINT32_MAX}, {2, 0, 101}}).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mempool
