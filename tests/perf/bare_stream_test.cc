// SPDX-License-Identifier: Apache-2.0
// Owns the tests of the bare stream: lists of any cut arrive byte by byte.
#include "perf/bare_stream.h"

#include <algorithm>
#include <cstddef>
#include <thread>

#include <gtest/gtest.h>

namespace mempool {
namespace {

/// Cut bytes into pieces of `size`, last piece first.
std::vector<iovec> backwards(std::vector<char>& bytes, size_t size) {
  std::vector<iovec> pieces;
  for (size_t at = bytes.size(); at > 0; at -= size) {
    pieces.push_back({bytes.data() + at - size, size});
  }
  return pieces;
}

TEST(BareStream, more_pieces_than_one_call_takes_arrive_in_order) {
  constexpr size_t kPieces = 3000, kPieceBytes = 100;
  std::vector<char> sent(kPieces * kPieceBytes), received(sent.size());
  for (size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i % 251);
  BareListener listener = BareListener::open({}, {}).value();
  std::thread sender([&] {
    BareStream stream = BareStream::connect({}, listener.port(), {}).value();
    EXPECT_TRUE(stream.send(backwards(sent, kPieceBytes)).ok());
  });
  BareStream stream = listener.accept().value();
  const Status status = stream.receive(backwards(received, kPieceBytes * 3));
  sender.join();
  ASSERT_TRUE(status.ok()) << status.to_string();
  // The first piece was the last hundred bytes, and went to the front of the last three hundred.
  const auto last = static_cast<ptrdiff_t>(sent.size() - kPieceBytes);
  EXPECT_TRUE(std::equal(sent.begin() + last, sent.end(), received.end() - 3 * kPieceBytes));
  EXPECT_TRUE(
      std::equal(sent.begin(), sent.begin() + kPieceBytes, received.begin() + 2 * kPieceBytes));
}

TEST(BareStream, peer_that_closes_early_is_an_error) {
  BareListener listener = BareListener::open({}, {}).value();
  std::thread leaver(
      [&] { EXPECT_TRUE(BareStream::connect({}, listener.port(), {}).status().ok()); });
  BareStream stream = listener.accept().value();
  leaver.join();
  char byte = 0;
  EXPECT_EQ(stream.receive({{&byte, 1}}).code(), StatusCode::kUnavailable);
}

TEST(BareStream, stranger_is_turned_away_and_the_next_one_accepted) {
  const TransferSite site{"127.0.0.1", "secret"};
  BareListener listener = BareListener::open(site, {}).value();
  std::thread dialers([&] {
    EXPECT_EQ(BareStream::connect({"127.0.0.1", "guess"}, listener.port(), {}).status().code(),
              StatusCode::kPermissionDenied);
    EXPECT_TRUE(BareStream::connect(site, listener.port(), {}).status().ok());
  });
  EXPECT_TRUE(listener.accept().ok());
  dialers.join();
}

TEST(Merged, neighbours_become_one_and_gaps_stay) {
  char bytes[16];
  const auto pieces = merged({{bytes, 4}, {bytes + 4, 4}, {bytes + 12, 4}, {bytes + 8, 4}});
  ASSERT_EQ(pieces.size(), 3u);
  EXPECT_EQ(pieces[0].iov_len, 8u);
  EXPECT_EQ(pieces[1].iov_base, bytes + 12);
}

}  // namespace
}  // namespace mempool
