// SPDX-License-Identifier: Apache-2.0
// Owns the HMAC of the shared token and the check of a bind host.
#include "core/auth.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>

#include <cstring>
#include <string>

#include "core/canonical.h"
#include "core/check.h"
#include "core/random.h"

namespace mempool {
namespace {

bool is_loopback(const std::string& host) {
  if (host == "localhost") return true;
  in_addr v4;
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  in6_addr v6;
  if (inet_pton(AF_INET6, host.c_str(), &v6) != 1) return false;
  return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
}

}  // namespace

Nonce make_nonce() {
  const std::array<uint64_t, 2> words = {random_word(), random_word()};
  Nonce nonce;
  static_assert(sizeof(words) == sizeof(nonce));
  std::memcpy(nonce.data(), words.data(), sizeof(nonce));
  return nonce;
}

Proof make_proof(std::string_view token, std::string_view purpose, const Challenge& challenge,
                 ProofRole role) {
  CanonicalBytes message;
  message.add("mempool proof 1");
  message.add(purpose);
  message.add(static_cast<uint64_t>(role));
  message.add(challenge.dialer);
  message.add(challenge.acceptor);
  message.add(challenge.dialer_nonce);
  message.add(challenge.acceptor_nonce);
  // OpenSSL gives a null key a meaning of its own; an empty token must be no more than empty.
  const char* key = token.empty() ? "" : token.data();
  Proof proof;
  unsigned int length = 0;
  MEMPOOL_CHECK(HMAC(EVP_sha256(), key, static_cast<int>(token.size()),
                     reinterpret_cast<const unsigned char*>(message.bytes().data()),
                     message.bytes().size(), reinterpret_cast<unsigned char*>(proof.data()),
                     &length) != nullptr);
  MEMPOOL_CHECK(length == proof.size());
  return proof;
}

bool check_proof(std::string_view token, std::string_view purpose, const Challenge& challenge,
                 ProofRole role, const Proof& proof) {
  const Proof expected = make_proof(token, purpose, challenge, role);
  return CRYPTO_memcmp(expected.data(), proof.data(), expected.size()) == 0;
}

Status check_bind(std::string_view host, std::string_view token) {
  if (!token.empty() || is_loopback(std::string(host))) return Status();
  return permission_denied(fmt::format(
      "bind host \"{}\" is not loopback and no shared token is set: give every agent the same "
      "token, or bind 127.0.0.1",
      host));
}

}  // namespace mempool
