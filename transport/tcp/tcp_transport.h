// SPDX-License-Identifier: Apache-2.0
// Owns the tcp backend: its regions, and the connecting of as many streams as an endpoint has.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <memory>
#include <string>
#include <vector>

#include "transport/proven_listener.h"
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
  using Socket = ProvenListener::Socket;
  struct Alive {};

  TcpTransport(const TransportContext& context, TcpOptions options);
  boost::asio::awaitable<void> dial(std::weak_ptr<Alive> alive, uint64_t peer, std::string host,
                                    std::vector<std::byte> address, ConnectHandler handler);

  boost::asio::io_context& io_;
  const TcpOptions options_;
  const uint64_t incarnation_;
  TcpSource source_;
  TcpTarget target_;
  ProvenListener listener_;
  // Shared with nobody: coroutines hold it weakly and look whether this is still here.
  std::shared_ptr<Alive> alive_ = std::make_shared<Alive>();
};

}  // namespace mempool
