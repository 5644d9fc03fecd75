// SPDX-License-Identifier: Apache-2.0
// Owns the accepting and the dialing of connections between transports: both ends prove the token
// before anybody else gets the socket.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/log.h"
#include "transport/handshake.h"

namespace mempool {

/// Connections accepted that have not proven the token yet; one more is closed at once.
inline constexpr uint32_t kUnprovenMax = 64;

/// Sizes of a connection's kernel buffers in bytes; 0 leaves them to the kernel.
struct SocketBuffers {
  uint32_t send = 0;
  uint32_t receive = 0;
};

/// Thread: confined to the io_context's thread.
class ProvenListener {
 public:
  using Socket = boost::asio::ip::tcp::socket;
  /// Gets a connection whose dialer has proven the token. False: there is no room for it.
  using ArrivalHandler = std::function<bool(Socket, const Dialer&)>;

  ProvenListener(boost::asio::io_context& io, HandshakeTerms terms, SocketBuffers buffers,
                 ArrivalHandler arrived);
  ~ProvenListener();

  /// Listen; port 0 lets the kernel pick. Errors: kPermissionDenied for a host beyond loopback
  /// without a token; kInvalidArgument for a bad host; kUnavailable when the port is taken.
  Status listen(const std::string& host, uint16_t port);
  /// Give what a peer needs to dial: our incarnation and port. Errors: kUnavailable.
  Result<std::vector<std::byte>> address() const;
  /// Read the port out of what address() gave. Errors: kInvalidArgument.
  static Result<uint16_t> port_of(std::span<const std::byte> address);

  /// Connect `socket` to incarnation `peer`, known to it as `connection`, and prove the token. The
  /// listener may go meanwhile. Errors: kUnavailable, and those of greet().
  boost::asio::awaitable<Status> dial(Socket& socket, std::string host, uint16_t port,
                                      uint64_t peer, uint64_t connection) const;

 private:
  struct Alive {};

  boost::asio::awaitable<void> accept(std::weak_ptr<Alive> alive);
  boost::asio::awaitable<void> prove(std::weak_ptr<Alive> alive, Socket socket);

  boost::asio::io_context& io_;
  const HandshakeTerms terms_;
  const SocketBuffers buffers_;
  const ArrivalHandler arrived_;
  boost::asio::ip::tcp::acceptor acceptor_;
  uint32_t unproven_ = 0;
  BoundedLog refusals_;
  // Shared with nobody: coroutines hold it weakly and look whether this is still here.
  std::shared_ptr<Alive> alive_ = std::make_shared<Alive>();
};

}  // namespace mempool
