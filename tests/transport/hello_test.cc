// SPDX-License-Identifier: Apache-2.0
// Tests the first messages of a tcp data connection.
#include "transport/hello.h"

#include <gtest/gtest.h>

namespace mempool {
namespace {

TEST(TcpHello, reads_back_as_written) {
  const TcpHello hello{0x1122334455667788, 42, 43, make_nonce()};
  const TcpHello read = decode_hello(encode_hello(hello)).value();
  EXPECT_EQ(read.dialer, hello.dialer);
  EXPECT_EQ(read.acceptor, hello.acceptor);
  EXPECT_EQ(read.connection, hello.connection);
  EXPECT_EQ(read.nonce, hello.nonce);
}

TEST(TcpHello, another_magic_is_malformed_and_another_version_unsupported) {
  auto bytes = encode_hello({1, 2, 3, {}});
  bytes[4] = std::byte{9};
  EXPECT_EQ(decode_hello(bytes).status().code(), StatusCode::kUnsupported);
  bytes[0] = std::byte{0};
  EXPECT_EQ(decode_hello(bytes).status().code(), StatusCode::kInvalidArgument);
}

TEST(TcpHello, an_answer_reads_back_as_written) {
  const Answer answer{Verdict::kIncarnation, 42, make_nonce()};
  const Answer read = decode_answer(encode_answer(answer)).value();
  EXPECT_EQ(read.verdict, answer.verdict);
  EXPECT_EQ(read.acceptor, answer.acceptor);
  EXPECT_EQ(read.nonce, answer.nonce);
}

TEST(TcpHello, an_answer_of_another_magic_or_verdict_is_malformed) {
  auto bytes = encode_answer({Verdict::kWelcome, 42, {}});
  bytes[6] = std::byte{4};
  EXPECT_EQ(decode_answer(bytes).status().code(), StatusCode::kInvalidArgument);
  bytes = encode_answer({Verdict::kWelcome, 42, {}});
  bytes[1] ^= std::byte{1};
  EXPECT_EQ(decode_answer(bytes).status().code(), StatusCode::kInvalidArgument);
}

TEST(TcpHello, a_welcome_reads_back_or_is_malformed) {
  TcpWelcome welcome;
  welcome.verdict = Verdict::kProof;
  welcome.proof.fill(std::byte{7});
  auto bytes = encode_welcome(welcome);
  EXPECT_EQ(decode_welcome(bytes)->verdict, Verdict::kProof);
  EXPECT_EQ(decode_welcome(bytes)->proof, welcome.proof);
  bytes[1] = std::byte{1};
  EXPECT_EQ(decode_welcome(bytes).status().code(), StatusCode::kInvalidArgument);
}

TEST(TcpHello, each_refusal_has_words) {
  EXPECT_TRUE(verdict_status(Verdict::kWelcome).ok());
  EXPECT_EQ(verdict_status(Verdict::kVersion).code(), StatusCode::kUnsupported);
  EXPECT_EQ(verdict_status(Verdict::kIncarnation).code(), StatusCode::kStale);
  EXPECT_EQ(verdict_status(Verdict::kProof).code(), StatusCode::kPermissionDenied);
}

}  // namespace
}  // namespace mempool
