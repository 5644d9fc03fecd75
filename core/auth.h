// SPDX-License-Identifier: Apache-2.0
// Owns the proof of the shared token that both ends of every control and data connection give each
// other, and the rule that an agent without a token listens on loopback only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "mempool/status.h"

namespace mempool {

/// HMAC-SHA256 under the shared token.
using Proof = std::array<std::byte, 32>;
/// Drawn anew by each end of each connection, so that no proof can be replayed.
using Nonce = std::array<std::byte, 16>;

/// What both ends of one connection know before they prove anything.
struct Challenge {
  uint64_t dialer = 0;    // incarnation of the end that connected
  uint64_t acceptor = 0;  // incarnation of the end that accepted
  Nonce dialer_nonce{};
  Nonce acceptor_nonce{};
};

/// Which end proves. Part of the proof, so that an end's own words sent back prove nothing.
enum class ProofRole : uint8_t { kDialer, kAcceptor };

/// Draw a nonce from the kernel's generator.
Nonce make_nonce();

/// Prove `token` for a connection of this `purpose` ("control", "data:tcp"): a proof made for one
/// purpose, connection or role fits no other.
Proof make_proof(std::string_view token, std::string_view purpose, const Challenge& challenge,
                 ProofRole role);

/// Tell whether `proof` is what the end in `role` had to give, in a time that does not depend on
/// where it differs.
bool check_proof(std::string_view token, std::string_view purpose, const Challenge& challenge,
                 ProofRole role, const Proof& proof);

/// Check that an agent may listen on `host`, a numeric address or "localhost".
/// Errors: kPermissionDenied for a host beyond loopback without a token.
Status check_bind(std::string_view host, std::string_view token);

}  // namespace mempool
