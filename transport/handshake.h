// SPDX-License-Identifier: Apache-2.0
// Owns the handshake of a connection between two transports over TCP: both ends name their
// incarnation and prove the token before the first frame.
#pragma once

#include <fmt/format.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "mempool/status.h"

namespace mempool {

/// What an end brings to a handshake.
struct HandshakeTerms {
  std::string transport;     // whose connection it is; what is proven for one is none for another
  uint64_t incarnation = 0;  // ours
  std::string token;
  std::chrono::milliseconds timeout{0};
};

/// Who has dialed, once proven.
struct Dialer {
  uint64_t incarnation = 0;
  uint64_t connection = 0;
};

/// Closes a socket when its time is over, so that whatever waits for it ends.
/// Thread: confined to the io_context's thread.
class Deadline {
 public:
  Deadline(boost::asio::ip::tcp::socket& socket, std::chrono::milliseconds timeout)
      : timer_(socket.get_executor(), timeout), timeout_(timeout) {
    watched_->socket = &socket;
    timer_.async_wait([watched = watched_](const boost::system::error_code& error) {
      if (error || watched->socket == nullptr) return;
      boost::system::error_code ignored;
      watched->socket->close(ignored);
      watched->passed = true;
    });
  }
  ~Deadline() { watched_->socket = nullptr; }

  bool passed() const { return watched_->passed; }
  Status status() const { return unavailable(fmt::format("not done in {} ms", timeout_.count())); }

 private:
  struct Watched {
    boost::asio::ip::tcp::socket* socket = nullptr;
    bool passed = false;
  };
  boost::asio::steady_timer timer_;
  const std::chrono::milliseconds timeout_;
  // Shared with the timer's handler, which may be queued already when the handshake ends.
  std::shared_ptr<Watched> watched_ = std::make_shared<Watched>();
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
