// SPDX-License-Identifier: Apache-2.0
// Owns the tcp backend: its listener, the connecting and accepting of streams, and its regions.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <memory>
#include <string>
#include <vector>

#include "core/log.h"
#include "transport/tcp/tcp_endpoint.h"
#include "transport/tcp/tcp_target.h"
#include "transport/transport_registry.h"

namespace mempool {

/// Thread: confined to the io_context's thread.
class TcpTransport final : public Transport {
 public:
  /// Listen. Errors: kPermissionDenied for a host beyond loopback without a token;
  /// kInvalidArgument for a bad option or host; kUnavailable when the port is taken.
  static Result<std::unique_ptr<Transport>> open(const TransportContext& context);
  ~TcpTransport() override;

  const Capabilities& capabilities() const override { return tcp_capabilities(); }
  Status register_region(const Region& region) override;
  /// Errors: kNotFound; kResourceExhausted while a call or a peer's frame under way uses it.
  Status deregister_region(uint32_t region) override;
  Result<std::vector<std::byte>> export_key(uint32_t region) const override;
  Result<std::vector<std::byte>> address_for(uint64_t peer) override;
  void connect(uint64_t peer, const std::string& host, std::span<const std::byte> address,
               ConnectHandler handler) override;
  Status open_slot(uint64_t peer, Slot slot) override { return target_.open_slot(peer, slot); }
  void close_slot(uint64_t peer, Slot slot) override { target_.close_slot(peer, slot); }
  void fence(uint64_t peer) override;
  CallCounts counts() const override;

 private:
  using Socket = boost::asio::ip::tcp::socket;
  struct Alive {};

  TcpTransport(const TransportContext& context, TcpOptions options);
  Status listen(const std::string& host);
  boost::asio::awaitable<void> accept(std::weak_ptr<Alive> alive);
  boost::asio::awaitable<void> prove(std::weak_ptr<Alive> alive, Socket socket);
  boost::asio::awaitable<void> dial(std::weak_ptr<Alive> alive, uint64_t peer, std::string host,
                                    std::vector<std::byte> address, ConnectHandler handler);
  boost::asio::awaitable<Status> dial_stream(Socket& socket, std::string host, uint16_t port,
                                             uint64_t peer, uint64_t connection);

  boost::asio::io_context& io_;
  const TcpOptions options_;
  const HandshakeTerms terms_;
  TcpSource source_;
  TcpTarget target_;
  boost::asio::ip::tcp::acceptor acceptor_;
  uint32_t unproven_ = 0;
  BoundedLog refusals_;
  // Shared with nobody: coroutines hold it weakly and look whether this is still here.
  std::shared_ptr<Alive> alive_ = std::make_shared<Alive>();
};

}  // namespace mempool
