// SPDX-License-Identifier: Apache-2.0
// Tests the proof of the shared token: what it is bound to, and which hosts need one.
#include "core/auth.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace mempool {
namespace {

Challenge challenge() {
  Challenge challenge = {.dialer = 0x11, .acceptor = 0x22};
  challenge.dialer_nonce.fill(std::byte{0xaa});
  challenge.acceptor_nonce.fill(std::byte{0xbb});
  return challenge;
}

std::string hex(const Proof& proof) {
  std::string text;
  for (const std::byte byte : proof) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    text += kDigits[static_cast<size_t>(byte >> 4)];
    text += kDigits[static_cast<size_t>(byte & std::byte{15})];
  }
  return text;
}

TEST(Auth, proof_of_the_same_words_is_accepted) {
  for (const ProofRole role : {ProofRole::kDialer, ProofRole::kAcceptor}) {
    const Proof proof = make_proof("secret", "control", challenge(), role);
    EXPECT_TRUE(check_proof("secret", "control", challenge(), role, proof));
  }
}

TEST(Auth, proof_is_bound_to_every_word) {
  const Proof proof = make_proof("secret", "control", challenge(), ProofRole::kDialer);
  EXPECT_FALSE(check_proof("other", "control", challenge(), ProofRole::kDialer, proof));
  EXPECT_FALSE(check_proof("", "control", challenge(), ProofRole::kDialer, proof));
  EXPECT_FALSE(check_proof("secret", "data:tcp", challenge(), ProofRole::kDialer, proof));
  EXPECT_FALSE(check_proof("secret", "control", challenge(), ProofRole::kAcceptor, proof));
  std::vector<Challenge> others(5, challenge());
  others[0].dialer = 0x12;
  others[1].acceptor = 0x23;
  others[2].dialer_nonce[15] = std::byte{0};
  others[3].acceptor_nonce[0] = std::byte{0};
  std::swap(others[4].dialer_nonce, others[4].acceptor_nonce);
  for (const Challenge& other : others) {
    EXPECT_FALSE(check_proof("secret", "control", other, ProofRole::kDialer, proof));
  }
}

TEST(Auth, proof_with_any_byte_changed_is_refused) {
  Proof proof = make_proof("secret", "control", challenge(), ProofRole::kDialer);
  for (std::byte& byte : proof) {
    byte ^= std::byte{1};
    EXPECT_FALSE(check_proof("secret", "control", challenge(), ProofRole::kDialer, proof));
    byte ^= std::byte{1};
  }
}

TEST(Auth, empty_token_still_binds_the_connection) {
  const Proof proof = make_proof("", "control", challenge(), ProofRole::kDialer);
  EXPECT_TRUE(check_proof(std::string_view(), "control", challenge(), ProofRole::kDialer, proof));
  Challenge other = challenge();
  other.dialer = 1;
  EXPECT_FALSE(check_proof("", "control", other, ProofRole::kDialer, proof));
}

TEST(Auth, proof_is_the_same_in_every_version) {
  EXPECT_EQ(hex(make_proof("secret", "data:tcp", challenge(), ProofRole::kAcceptor)),
            "cd481fc13e9452735a0429969dedee42f40bc8793ac6d7a9b27b3142b18ecac6");
}

TEST(Auth, nonces_differ) {
  std::set<Nonce> nonces;
  for (int i = 0; i < 100; ++i) nonces.insert(make_nonce());
  EXPECT_EQ(nonces.size(), 100u);
}

TEST(Auth, loopback_binds_without_a_token) {
  for (const char* host : {"127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "localhost"}) {
    EXPECT_TRUE(check_bind(host, "").ok()) << host;
  }
}

TEST(Auth, other_hosts_need_a_token) {
  for (const char* host : {"0.0.0.0", "10.0.0.7", "128.0.0.1", "::", "fe80::1", "::ffff:10.0.0.7",
                           "decode0", "localhost.example", "127.1", ""}) {
    const Status status = check_bind(host, "");
    EXPECT_EQ(status.code(), StatusCode::kPermissionDenied) << host;
    EXPECT_NE(status.message().find("token"), std::string_view::npos);
    EXPECT_TRUE(check_bind(host, "secret").ok()) << host;
  }
}

}  // namespace
}  // namespace mempool
