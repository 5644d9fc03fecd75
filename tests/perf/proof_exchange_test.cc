// SPDX-License-Identifier: Apache-2.0
// Owns the tests of the proofs at the start of a connection.
#include "perf/proof_exchange.h"

#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <utility>

#include <gtest/gtest.h>

#include "transport/hello.h"

namespace mempool {
namespace {

const TimeLeft kTime{std::chrono::seconds(30)};

/// Two connected sockets. Thread: confined.
struct Pair {
  Pair() { EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0); }
  ~Pair() {
    for (const int end : ends) ::close(end);
  }
  int ends[2];
};

/// What dialer and acceptor say, each with a token and a purpose.
std::pair<Status, Status> exchange(const std::string& token, const std::string& purpose,
                                   const std::string& other_token,
                                   const std::string& other_purpose) {
  const Pair pair;
  Status accepted;
  std::thread acceptor([&] {
    accepted =
        exchange_proofs(pair.ends[1], ProofRole::kAcceptor, other_token, other_purpose, kTime);
  });
  const Status dialed = exchange_proofs(pair.ends[0], ProofRole::kDialer, token, purpose, kTime);
  acceptor.join();
  return {dialed, accepted};
}

TEST(ProofExchange, equal_tokens_for_one_purpose_are_proven) {
  const auto [dialed, accepted] = exchange("secret", "a", "secret", "a");
  EXPECT_TRUE(dialed.ok()) << dialed.to_string();
  EXPECT_TRUE(accepted.ok()) << accepted.to_string();
}

TEST(ProofExchange, other_token_or_purpose_is_refused_at_both_ends) {
  for (const auto& [token, purpose] : {std::pair("guess", "a"), std::pair("secret", "b")}) {
    const auto [dialed, accepted] = exchange("secret", "a", token, purpose);
    EXPECT_EQ(dialed.code(), StatusCode::kPermissionDenied) << token << purpose;
    EXPECT_EQ(accepted.code(), StatusCode::kPermissionDenied) << token << purpose;
  }
}

TEST(ProofExchange, acceptor_that_cannot_prove_is_refused) {
  const Pair pair;
  std::thread impostor([&] {  // it welcomes everybody
    std::array<std::byte, kHelloBytes + sizeof(Proof)> taken;
    ASSERT_TRUE(receive_all(pair.ends[1], std::span(taken).first<kHelloBytes>(), kTime).ok());
    ASSERT_TRUE(send_all(pair.ends[1], encode_answer({Verdict::kWelcome, 1, {}}), kTime).ok());
    ASSERT_TRUE(receive_all(pair.ends[1], std::span(taken).last<sizeof(Proof)>(), kTime).ok());
    ASSERT_TRUE(send_all(pair.ends[1], encode_welcome({Verdict::kWelcome, {}}), kTime).ok());
  });
  const Status status = exchange_proofs(pair.ends[0], ProofRole::kDialer, "secret", "a", kTime);
  impostor.join();
  EXPECT_EQ(status.code(), StatusCode::kPermissionDenied);
}

TEST(ProofExchange, other_version_is_told_so) {
  const Pair pair;
  std::thread acceptor([&] {
    EXPECT_EQ(exchange_proofs(pair.ends[1], ProofRole::kAcceptor, "", "a", kTime).code(),
              StatusCode::kUnsupported);
  });
  auto hello = encode_hello({});
  hello[4] = std::byte{99};  // the version, behind the magic
  ASSERT_TRUE(send_all(pair.ends[0], hello, kTime).ok());
  std::array<std::byte, kAnswerBytes> answer;
  ASSERT_TRUE(receive_all(pair.ends[0], answer, kTime).ok());
  acceptor.join();
  EXPECT_EQ(decode_answer(answer).value().verdict, Verdict::kVersion);
}

}  // namespace
}  // namespace mempool
