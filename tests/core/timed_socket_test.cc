// SPDX-License-Identifier: Apache-2.0
// Owns the tests of sockets that wait no longer than they have time.
#include "core/timed_socket.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/listen_socket.h"

namespace mempool {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

/// Two connected sockets. Thread: confined.
struct Pair {
  Pair() { EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0); }
  ~Pair() {
    ::close(ends[0]);
    if (ends[1] >= 0) ::close(ends[1]);
  }
  int ends[2];
};

TEST(TimedSocket, bytes_arrive_as_they_were_sent) {
  const Pair pair;
  const std::array<std::byte, 3> sent = {std::byte{1}, std::byte{2}, std::byte{3}};
  std::array<std::byte, 3> received{};
  const TimeLeft time_left(milliseconds(10000));
  ASSERT_TRUE(send_all(pair.ends[0], sent, time_left).ok());
  ASSERT_TRUE(receive_all(pair.ends[1], received, time_left).ok());
  EXPECT_EQ(received, sent);
}

TEST(TimedSocket, silent_end_is_given_up_when_the_time_is_over) {
  const Pair pair;
  std::byte byte{};
  EXPECT_THAT(receive_all(pair.ends[0], {&byte, 1}, TimeLeft(milliseconds(1))).to_string(),
              HasSubstr("no answer in time"));
}

TEST(TimedSocket, end_that_does_not_read_is_given_up_when_the_time_is_over) {
  const Pair pair;
  const std::vector<std::byte> more_than_buffers_hold(16 << 20);
  EXPECT_EQ(send_all(pair.ends[0], more_than_buffers_hold, TimeLeft(milliseconds(1))).code(),
            StatusCode::kUnavailable);
}

TEST(TimedSocket, end_that_closes_early_is_told_apart_from_a_silent_one) {
  Pair pair;
  ::close(std::exchange(pair.ends[1], -1));
  std::byte byte{};
  EXPECT_THAT(receive_all(pair.ends[0], {&byte, 1}, TimeLeft(milliseconds(10000))).to_string(),
              HasSubstr("closed the connection"));
}

TEST(TimedSocket, connect_reaches_a_listener_and_shows_the_socket_before) {
  const ListenSocket listener = listen_on("127.0.0.1", 0, "").value();
  int seen = -1;
  const Result<Descriptor> connected =
      connect_to(join_address("localhost", listener.port), TimeLeft(milliseconds(10000)),
                 [&](int descriptor) { seen = descriptor; });
  ASSERT_TRUE(connected.ok()) << connected.status().to_string();
  EXPECT_EQ(seen, connected->number());
  ::close(listener.descriptor);
}

TEST(TimedSocket, connect_names_the_address_that_nobody_answers) {
  const ListenSocket listener = listen_on("127.0.0.1", 0, "").value();
  ::close(listener.descriptor);
  const std::string address = join_address(listener.host, listener.port);
  const Status status = connect_to(address, TimeLeft(milliseconds(10000))).status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(status.to_string(), HasSubstr(address));
  EXPECT_EQ(connect_to("nowhere", TimeLeft(milliseconds(1))).status().code(),
            StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mempool
