// SPDX-License-Identifier: Apache-2.0
// Tests that queued frames go out in order and whole, and what a stop makes of them.
#include "transport/tcp/frame_queue.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "core/random.h"

namespace mempool {
namespace {

struct Listener final : FrameQueueListener {
  std::vector<uint64_t> sent;
  std::vector<uint64_t> stopped;
  void on_sent(const FrameHeader& header) override { sent.push_back(header.tag); }
  void on_stopped(const FrameHeader& header) override { stopped.push_back(header.tag); }
};

// Take up to `most` bytes off a queue, as a socket would.
std::vector<std::byte> drain(FrameQueue& queue, size_t most, size_t entries = 1024) {
  std::vector<std::byte> out;
  std::vector<iovec> pieces(entries);
  while (most > 0 && !queue.empty()) {
    const size_t count = queue.gather(pieces, 1 << 20);
    EXPECT_GT(count, 0u);
    size_t taken = 0;
    for (size_t i = 0; i < count && taken < most; ++i) {
      const size_t here = std::min(pieces[i].iov_len, most - taken);
      const auto* from = static_cast<const std::byte*>(pieces[i].iov_base);
      out.insert(out.end(), from, from + here);
      taken += here;
    }
    queue.advance(taken);
    most -= taken;
  }
  return out;
}

void push_write(FrameQueue& queue, uint64_t tag, Slot slot, std::span<const std::byte> source,
                const std::vector<FrameRange>& ranges) {
  OutgoingFrame* frame = queue.draft();
  ASSERT_NE(frame, nullptr);
  frame->start({FrameType::kWrite, false, slot, tag});
  size_t from = 0;
  for (const FrameRange& range : ranges) {
    frame->add_range(range.region, range.offset, range.bytes);
    frame->add_piece(source.data() + from, range.bytes);
    from += range.bytes;
  }
  queue.push();
}

void push_reply(FrameQueue& queue, uint64_t tag, Slot slot, std::span<const std::byte> source) {
  OutgoingFrame* reply = queue.draft();
  ASSERT_NE(reply, nullptr);
  reply->start({FrameType::kReadReply, false, slot, tag});
  reply->add_piece(source.data(), source.size());
  queue.push();
  OutgoingFrame* end = queue.draft();
  ASSERT_NE(end, nullptr);
  end->start({FrameType::kReadEnd, false, slot, tag});
  queue.push();
}

FrameHeader header_at(const std::vector<std::byte>& stream, size_t at) {
  const std::span<const std::byte> bytes(stream.data() + at, kFrameHeaderBytes);
  return decode_frame_header(bytes.first<kFrameHeaderBytes>()).value();
}

constexpr size_t kOneRange = kFrameHeaderBytes + kFrameRangeBytes;

std::vector<std::byte> numbers(size_t count, uint64_t seed) {
  Random random(seed);
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next() | 1);  // never zero
  return bytes;
}

RC_GTEST_PROP(FrameQueue, frames_go_out_whole_and_in_order_however_much_is_sent_at_once, ()) {
  Random random(*rc::gen::arbitrary<uint64_t>());
  const auto most = *rc::gen::element<uint64_t>(3, 50, 5000, 1000000);
  const auto entries = *rc::gen::element<size_t>(1, 2, 7, 1024);
  Listener listener;
  FrameQueue queue(8, listener);
  std::vector<std::vector<std::byte>> sources;
  std::vector<std::byte> expected;
  std::vector<std::byte> out;
  for (uint64_t tag = 0; tag < 20 || !queue.empty();) {
    if (tag < 20 && queue.draft() != nullptr && random.chance(0.6)) {
      sources.push_back(numbers(1 + random.below(3000), tag));
      const std::vector<std::byte>& source = sources.back();
      const auto half = static_cast<uint32_t>(source.size() / 2);
      std::vector<FrameRange> ranges;
      if (half > 0) ranges.push_back({1, 100, half});
      ranges.push_back({2, 5, static_cast<uint32_t>(source.size()) - half});
      push_write(queue, tag, {1, 1}, source, ranges);
      const FrameHeader header{FrameType::kWrite,
                               false,
                               {1, 1},
                               tag,
                               static_cast<uint32_t>(ranges.size()),
                               static_cast<uint32_t>(source.size())};
      const size_t at = expected.size();
      expected.resize(at + kFrameHeaderBytes + ranges.size() * kFrameRangeBytes);
      encode_frame_header(header, expected.data() + at);
      for (size_t i = 0; i < ranges.size(); ++i) {
        encode_frame_range(ranges[i], expected.data() + at + kFrameHeaderBytes + i * 16);
      }
      expected.insert(expected.end(), source.begin(), source.end());
      ++tag;
    } else {
      const std::vector<std::byte> some = drain(queue, 1 + random.below(most), entries);
      out.insert(out.end(), some.begin(), some.end());
    }
  }
  RC_ASSERT(out == expected);
  RC_ASSERT(listener.sent.size() == 20u);
  RC_ASSERT(std::is_sorted(listener.sent.begin(), listener.sent.end()));
}

class FrameQueueStop : public testing::Test {
 protected:
  std::vector<std::byte> source_ = numbers(100000, 1);
  Listener listener_;
  FrameQueue queue_{4, listener_};
};

TEST_F(FrameQueueStop, neighbours_melt_into_one_range_and_piece) {
  push_write(queue_, 1, {1, 1}, std::span(source_).first(30),
             {{7, 0, 10}, {7, 10, 10}, {8, 20, 10}});
  const std::vector<std::byte> out = drain(queue_, 1000);
  EXPECT_EQ(header_at(out, 0).ranges, 2u);
  EXPECT_EQ(out.size(), kFrameHeaderBytes + 2 * kFrameRangeBytes + 30);
}

TEST_F(FrameQueueStop, a_piece_is_sent_from_every_part_of_it) {
  push_write(queue_, 1, {1, 1}, source_, {{7, 0, 100000}});
  const std::byte* first = source_.data();
  EXPECT_TRUE(queue_.sends_from(first + 50000, 10)) << "melted pieces may be of two regions";
  drain(queue_, kOneRange + 50000);
  EXPECT_FALSE(queue_.sends_from(first, 50000));
  EXPECT_TRUE(queue_.sends_from(first + 49999, 2));
  EXPECT_FALSE(queue_.sends_from(first + 100000, 10));
}

TEST_F(FrameQueueStop, frames_not_begun_are_dropped_and_others_stay) {
  push_write(queue_, 1, {1, 1}, std::span(source_).first(10), {{7, 0, 10}});
  push_write(queue_, 2, {2, 1}, std::span(source_).first(10), {{7, 0, 10}});
  push_write(queue_, 3, {1, 2}, std::span(source_).first(10), {{7, 0, 10}});
  queue_.stop({1, 1});
  EXPECT_EQ(listener_.stopped, std::vector<uint64_t>{1});
  const std::vector<std::byte> out = drain(queue_, 1000);
  EXPECT_EQ(out.size(), 2 * (kOneRange + 10));
  EXPECT_EQ(listener_.sent, (std::vector<uint64_t>{2, 3}));
}

TEST_F(FrameQueueStop, the_rest_of_a_frame_that_has_begun_is_made_up_of_zeros) {
  push_write(queue_, 1, {1, 1}, source_, {{7, 0, 100000}});
  push_write(queue_, 2, {2, 1}, std::span(source_).first(10), {{7, 0, 10}});
  std::vector<std::byte> out = drain(queue_, kOneRange + 500);
  EXPECT_TRUE(queue_.sends_from(source_.data(), source_.size()));
  queue_.stop({1, 1});
  EXPECT_EQ(listener_.stopped, std::vector<uint64_t>{1});
  queue_.stop({1, 1});
  EXPECT_EQ(listener_.stopped.size(), 1u) << "stopped once is stopped";
  std::fill(source_.begin(), source_.end(), std::byte{0xee});  // reused at once
  const std::vector<std::byte> rest = drain(queue_, 1000000);
  out.insert(out.end(), rest.begin(), rest.end());
  ASSERT_EQ(out.size(), kOneRange + 100000 + kOneRange + 10);
  const auto payload = out.begin() + kOneRange;
  EXPECT_TRUE(std::equal(payload, payload + 500, numbers(100000, 1).begin()));
  EXPECT_TRUE(std::all_of(payload + 500, payload + 100000,
                          [](std::byte byte) { return byte == std::byte{0}; }));
  EXPECT_EQ(header_at(out, kOneRange + 100000).tag, 2u);
}

TEST_F(FrameQueueStop, a_read_that_is_stopped_ends_refused) {
  push_reply(queue_, 1, {1, 1}, source_);
  push_reply(queue_, 2, {1, 1}, source_);
  std::vector<std::byte> out = drain(queue_, kFrameHeaderBytes + 500);
  queue_.stop({1, 1});
  const std::vector<std::byte> rest = drain(queue_, 1000000);
  out.insert(out.end(), rest.begin(), rest.end());
  // The first reply is made up, the second gone; both ends say that they are refused.
  ASSERT_EQ(out.size(), kFrameHeaderBytes + 100000 + 2 * kFrameHeaderBytes);
  for (const size_t at : {kFrameHeaderBytes + 100000, 2 * kFrameHeaderBytes + 100000}) {
    EXPECT_EQ(header_at(out, at).type, FrameType::kReadEnd);
    EXPECT_TRUE(header_at(out, at).refused);
  }
}

TEST_F(FrameQueueStop, a_reply_that_has_gone_out_ends_well_though_its_end_has_begun) {
  push_reply(queue_, 1, {1, 1}, source_);
  std::vector<std::byte> out = drain(queue_, kFrameHeaderBytes + 100000 + 1);
  queue_.stop({1, 1});
  const std::vector<std::byte> rest = drain(queue_, 1000000);
  out.insert(out.end(), rest.begin(), rest.end());
  EXPECT_FALSE(header_at(out, kFrameHeaderBytes + 100000).refused);
}

TEST_F(FrameQueueStop, a_full_queue_has_no_draft_until_a_frame_is_sent) {
  for (uint64_t tag = 0; tag < 4; ++tag) {
    push_write(queue_, tag, {1, 1}, std::span(source_).first(10), {{7, 0, 10}});
  }
  EXPECT_EQ(queue_.draft(), nullptr);
  drain(queue_, kOneRange + 10);
  EXPECT_NE(queue_.draft(), nullptr);
}

}  // namespace
}  // namespace mempool
