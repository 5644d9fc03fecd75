// SPDX-License-Identifier: Apache-2.0
// Owns the tests of the channel: messages stay apart, and what is none is refused.
#include "perf/channel.h"

#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include <gtest/gtest.h>

namespace mempool {
namespace {

TEST(Channel, messages_arrive_apart_and_whole) {
  auto [near, far] = open_channel().value();
  const std::string binary("\0\n\xff", 3);
  ASSERT_TRUE(near.send({1, 7, binary}).ok());
  ASSERT_TRUE(near.send({2, uint64_t{1} << 63, {}}).ok());
  const ChannelMessage first = far.receive().value();
  EXPECT_EQ(first.kind, 1u);
  EXPECT_EQ(first.number, 7u);
  EXPECT_EQ(first.text, binary);
  const ChannelMessage second = far.receive().value();
  EXPECT_EQ(second.number, uint64_t{1} << 63);
  EXPECT_EQ(second.text, "");
}

TEST(Channel, end_that_went_is_an_error) {
  auto ends = open_channel().value();
  { const Channel gone = std::move(ends.second); }
  EXPECT_EQ(ends.first.receive().status().code(), StatusCode::kUnavailable);
}

TEST(Channel, text_that_claims_to_be_too_long_is_refused_before_it_is_taken) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  Channel channel{Descriptor(ends[0])};
  const std::string header(16, '\xff');
  ASSERT_EQ(::send(ends[1], header.data(), header.size(), 0), 16);
  EXPECT_EQ(channel.receive().status().code(), StatusCode::kInvalidArgument);
  ::close(ends[1]);
}

}  // namespace
}  // namespace mempool
