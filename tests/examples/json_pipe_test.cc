// SPDX-License-Identifier: Apache-2.0
// Owns the tests of the pipes between the demo's processes, and of what goes over them.
#include "examples/demo/json_pipe.h"

#include <unistd.h>

#include <gtest/gtest.h>

#include "examples/demo/messages.h"

namespace mempool::demo {
namespace {

/// Two ends that talk to each other.
struct Ends {
  std::unique_ptr<JsonPipe> left;
  std::unique_ptr<JsonPipe> right;
  int to_right = -1;
};

Ends open_ends() {
  int to_right[2];
  int to_left[2];
  EXPECT_EQ(pipe(to_right), 0);
  EXPECT_EQ(pipe(to_left), 0);
  return {std::make_unique<JsonPipe>(to_left[0], to_right[1]),
          std::make_unique<JsonPipe>(to_right[0], to_left[1]), to_right[1]};
}

TEST(JsonPipe, a_message_arrives_as_it_was_sent) {
  const Ends ends = open_ends();
  Sent sent;
  sent.bytes_moved = uint64_t{1} << 60;
  sent.seconds = 0.25;
  ASSERT_TRUE(ends.left->write(sent).ok());
  sent.system_calls = 3;
  ASSERT_TRUE(ends.left->write(sent).ok());
  const Sent first = ends.right->read().value().value().get<Sent>();
  EXPECT_EQ(first.bytes_moved, sent.bytes_moved);
  EXPECT_EQ(first.seconds, 0.25);
  EXPECT_EQ(first.system_calls, std::nullopt);
  EXPECT_EQ(ends.right->read().value().value().get<Sent>().system_calls, 3u);
}

TEST(JsonPipe, gives_nothing_once_the_writer_closed) {
  const Ends ends = open_ends();
  ends.left->close_writer();
  EXPECT_EQ(ends.right->read().value(), std::nullopt);
}

TEST(JsonPipe, refuses_a_line_that_is_no_json) {
  const Ends ends = open_ends();
  ASSERT_EQ(write(ends.to_right, "{]\n", 3), 3);
  EXPECT_EQ(ends.right->read().status().code(), StatusCode::kCorruption);
}

}  // namespace
}  // namespace mempool::demo
