// SPDX-License-Identifier: Apache-2.0
// Tests that payload lands in place however the stream is cut, and nowhere once it is discarded.
#include "transport/tcp/frame_reader.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstring>

#include "core/random.h"

namespace mempool {
namespace {

// Region offsets are offsets into `memory`; slot 0 is closed.
struct Target final : FrameHandler {
  std::vector<std::byte> memory = std::vector<std::byte>(1 << 16);
  std::vector<FrameHeader> frames;
  std::vector<Landing> landings;

  Result<Landing> on_head(const FrameHeader& header, std::span<const FrameRange> ranges,
                          std::vector<iovec>& places) override {
    if (header.slot.index == 0) return Landing::kDiscard;
    for (const FrameRange& range : ranges) {
      if (range.offset > memory.size() || range.bytes > memory.size() - range.offset) {
        return permission_denied("outside");
      }
      if (header.payload_bytes() > 0) places.push_back({memory.data() + range.offset, range.bytes});
    }
    return header.payload_bytes() > 0 && !ranges.empty() ? Landing::kPlace : Landing::kDiscard;
  }
  Status on_frame(const FrameHeader& header, Landing landing) override {
    frames.push_back(header);
    landings.push_back(landing);
    return {};
  }
};

// Put up to `most` bytes of the stream where the reader wants them.
Status feed(FrameReader& reader, std::span<const std::byte>& stream, size_t most) {
  static std::vector<iovec> places(FrameReader::kPlacesMax);
  const size_t count = reader.prepare(places);
  EXPECT_GT(count, 0u);
  size_t fed = 0;
  for (size_t i = 0; i < count && most > 0 && !stream.empty(); ++i) {
    const size_t here = std::min({places[i].iov_len, most, stream.size()});
    std::memcpy(places[i].iov_base, stream.data(), here);
    stream = stream.subspan(here);
    most -= here;
    fed += here;
  }
  return reader.advance(fed);
}

void append_frame(std::vector<std::byte>& stream, FrameHeader header,
                  const std::vector<FrameRange>& ranges, std::span<const std::byte> payload) {
  header.ranges = static_cast<uint32_t>(ranges.size());
  size_t at = stream.size();
  stream.resize(at + kFrameHeaderBytes + ranges.size() * kFrameRangeBytes);
  encode_frame_header(header, stream.data() + at);
  at += kFrameHeaderBytes;
  for (const FrameRange& range : ranges) {
    encode_frame_range(range, stream.data() + at);
    at += kFrameRangeBytes;
  }
  stream.insert(stream.end(), payload.begin(), payload.end());
}

// A write of random ranges, applied to `expected` unless its slot is closed.
void append_write(std::vector<std::byte>& stream, Random& random, uint64_t most, uint32_t slot,
                  std::vector<std::byte>& expected) {
  std::vector<FrameRange> ranges;
  std::vector<std::byte> payload;
  const uint64_t count = 1 + random.below(random.chance(0.1) ? most : 8);
  for (uint64_t i = 0; i < count; ++i) {
    FrameRange range{
        7, 0,
        static_cast<uint32_t>(1 + random.below(random.chance(0.1) && most > 100 ? 9000 : 60))};
    range.offset = random.below(expected.size() - range.bytes);
    ranges.push_back(range);
    for (uint32_t byte = 0; byte < range.bytes; ++byte) {
      payload.push_back(static_cast<std::byte>(random.next()));
      if (slot != 0) expected[range.offset + byte] = payload.back();
    }
  }
  FrameHeader header{
      FrameType::kWrite, false, {slot, 1}, 0, 0, static_cast<uint32_t>(payload.size())};
  append_frame(stream, header, ranges, payload);
}

RC_GTEST_PROP(FrameReader, payload_lands_in_place_however_the_stream_is_cut, ()) {
  Random random(*rc::gen::arbitrary<uint64_t>());
  Target target;
  std::vector<std::byte> expected = target.memory;
  std::vector<std::byte> stream;
  // A stream cut into few bytes at a time is a short one, or it would take for ever.
  const uint64_t most = *rc::gen::element<uint64_t>(2, 40, 3000, 1000000);
  const size_t frames = 1 + random.below(most > 1000 ? 30 : 5);
  const uint64_t ranges = most > 1000 ? kFrameRangesMax : 20;
  for (size_t i = 0; i < frames; ++i) {
    if (random.chance(0.3)) {
      append_frame(stream, {FrameType::kNotify, false, {1, 1}, i}, {}, {});
    } else {
      append_write(stream, random, ranges, static_cast<uint32_t>(random.below(3)), expected);
    }
  }
  FrameReader reader(target);
  for (std::span<const std::byte> rest = stream; !rest.empty();) {
    const Status status = feed(reader, rest, random.below(most));
    RC_ASSERT(status.ok());
  }
  RC_ASSERT(target.frames.size() == frames);
  RC_ASSERT(target.memory == expected);
  RC_ASSERT(!reader.in_frame());
}

RC_GTEST_PROP(FrameReader, a_spoilt_stream_is_read_within_bounds_or_refused, ()) {
  Random random(*rc::gen::arbitrary<uint64_t>());
  Target target;
  std::vector<std::byte> ignored = target.memory;
  std::vector<std::byte> stream;
  for (int i = 0; i < 5; ++i) append_write(stream, random, 20, 1, ignored);
  for (uint64_t flips = 1 + random.below(5); flips > 0; --flips) {
    stream[random.below(stream.size())] ^= static_cast<std::byte>(1 << random.below(8));
  }
  FrameReader reader(target);
  for (std::span<const std::byte> rest = stream; !rest.empty();) {
    if (!feed(reader, rest, 1 + random.below(5000)).ok()) break;
  }
  RC_ASSERT(target.frames.size() <= 5u);
}

class FrameReaderDiscard : public testing::Test {
 protected:
  FrameReaderDiscard() {
    const std::vector<std::byte> payload(kBytes, std::byte{0xaa});
    append_frame(stream_, {FrameType::kWrite, false, {1, 1}, 0, 0, kBytes}, {{7, 0, kBytes}},
                 payload);
    append_frame(stream_, {FrameType::kNotify, false, {2, 1}}, {}, {});
    rest_ = stream_;
  }
  static constexpr uint32_t kBytes = 60000;
  Target target_;
  FrameReader reader_{target_};
  std::vector<std::byte> stream_;
  std::span<const std::byte> rest_;
};

TEST_F(FrameReaderDiscard, drops_the_rest_of_the_frame_under_way_and_reads_on) {
  ASSERT_TRUE(feed(reader_, rest_, 20000).ok());
  EXPECT_TRUE(reader_.lands_in(target_.memory.data(), kBytes));
  reader_.discard({1, 1});
  EXPECT_FALSE(reader_.lands_in(target_.memory.data(), kBytes));
  while (!rest_.empty()) ASSERT_TRUE(feed(reader_, rest_, 25000).ok());
  EXPECT_EQ(target_.memory[20000 - kFrameHeaderBytes - kFrameRangeBytes - 1], std::byte{0xaa});
  EXPECT_EQ(target_.memory[20000 - kFrameHeaderBytes - kFrameRangeBytes], std::byte{0});
  ASSERT_EQ(target_.frames.size(), 2u);
  EXPECT_EQ(target_.landings[0], Landing::kDiscard);
}

TEST_F(FrameReaderDiscard, payload_under_way_goes_into_every_part_that_is_left) {
  ASSERT_TRUE(feed(reader_, rest_, 20000).ok());
  const std::byte* first = target_.memory.data();
  EXPECT_TRUE(reader_.lands_in(first + 40000, 10));
  EXPECT_FALSE(reader_.lands_in(first, 100));
  EXPECT_FALSE(reader_.lands_in(first + kBytes, 10));
}

TEST_F(FrameReaderDiscard, spares_a_frame_of_another_slot_or_generation) {
  ASSERT_TRUE(feed(reader_, rest_, 20000).ok());
  reader_.discard({1, 2});
  reader_.discard({2, 1});
  while (!rest_.empty()) ASSERT_TRUE(feed(reader_, rest_, 25000).ok());
  EXPECT_EQ(target_.landings[0], Landing::kPlace);
  EXPECT_EQ(target_.memory[kBytes - 1], std::byte{0xaa});
}

TEST_F(FrameReaderDiscard, tells_a_stream_that_ends_inside_a_frame) {
  EXPECT_FALSE(reader_.in_frame());
  ASSERT_TRUE(feed(reader_, rest_, 10).ok());
  EXPECT_TRUE(reader_.in_frame());
  ASSERT_TRUE(feed(reader_, rest_, 20000).ok());
  EXPECT_TRUE(reader_.in_frame());
  while (!rest_.empty()) ASSERT_TRUE(feed(reader_, rest_, 100000).ok());
  EXPECT_FALSE(reader_.in_frame());
}

}  // namespace
}  // namespace mempool
