// SPDX-License-Identifier: Apache-2.0
// Owns where set-up connections come in and go out for a backend whose data moves elsewhere.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "transport/setup_link.h"
#include "transport/proven_listener.h"

namespace mempool {

/// Thread: confined to the io_context's thread.
class SetupPort {
 public:
  using Socket = ProvenListener::Socket;
  using DialHandler = std::function<void(Result<Socket>)>;

  SetupPort(boost::asio::io_context& io, HandshakeTerms terms,
            ProvenListener::ArrivalHandler arrived)
      : io_(io), listener_(io, std::move(terms), {}, std::move(arrived)) {}

  /// As ProvenListener::listen() and address().
  Status listen(const std::string& host, uint16_t port) { return listener_.listen(host, port); }
  Result<std::vector<std::byte>> address() const { return listener_.address(); }
  /// Connect to the port of a peer's address and prove the token. The handler comes later, unless
  /// this goes first. Errors: kInvalidArgument for a malformed address; those of
  /// ProvenListener::dial().
  void dial(uint64_t peer, std::string host, std::span<const std::byte> address,
            DialHandler handler);

 private:
  struct Alive {};

  boost::asio::awaitable<void> dial_now(std::weak_ptr<Alive> alive, uint64_t peer, std::string host,
                                        std::vector<std::byte> address, DialHandler handler);

  boost::asio::io_context& io_;
  ProvenListener listener_;
  // Shared with nobody: coroutines hold it weakly and look whether this is still here.
  std::shared_ptr<Alive> alive_ = std::make_shared<Alive>();
};

}  // namespace mempool
