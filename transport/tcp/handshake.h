// SPDX-License-Identifier: Apache-2.0
// Owns the handshake of a tcp data connection: both ends name their incarnation and prove the token
// before the first frame.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <cstdint>
#include <string>

#include "mempool/status.h"

namespace mempool {

/// What an end brings to a handshake.
struct HandshakeTerms {
  uint64_t incarnation = 0;  // ours
  std::string token;
  std::chrono::milliseconds timeout{0};
};

/// Who has dialed, once proven.
struct Dialer {
  uint64_t incarnation = 0;
  uint64_t connection = 0;
};

/// Greet the acceptor as the dialer. Errors: kStale, kPermissionDenied, kUnsupported as it says;
/// kPermissionDenied too when its own proof is wrong; kUnavailable when it does not answer in time.
boost::asio::awaitable<Status> greet(boost::asio::ip::tcp::socket& socket,
                                     const HandshakeTerms& terms, uint64_t acceptor,
                                     uint64_t connection);

/// Answer a dialer as the acceptor. Errors as above; the dialer has been told.
boost::asio::awaitable<Result<Dialer>> answer(boost::asio::ip::tcp::socket& socket,
                                              const HandshakeTerms& terms);

}  // namespace mempool
