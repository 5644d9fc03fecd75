// SPDX-License-Identifier: Apache-2.0
// Owns the connecting of the tcp backend, as a coroutine on its io_context.
#include "transport/tcp/tcp_transport.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include "core/check.h"
#include "core/random.h"

namespace mempool {

namespace asio = boost::asio;

TcpTransport::TcpTransport(const TransportContext& context, TcpOptions options)
    : io_(*context.io),
      options_(options),
      incarnation_(context.incarnation),
      source_{{}, std::make_shared<EventQueue>(*context.loop, *context.events), {}, {}},
      target_(source_.regions, *source_.events, *context.events),
      listener_(io_, {"tcp", context.incarnation, context.token, options.handshake_timeout},
                {options.send_buffer, options.receive_buffer},
                [this](Socket socket, const Dialer& dialer) {
                  return target_.adopt(std::move(socket), dialer);
                }) {}

Result<std::unique_ptr<Transport>> TcpTransport::open(const TransportContext& context) {
  MEMPOOL_ASSIGN_OR_RETURN(const TcpOptions options, TcpOptions::parse(context.options));
  std::unique_ptr<TcpTransport> transport(new TcpTransport(context, options));
  MEMPOOL_RETURN_IF_ERROR(transport->listener_.listen(context.bind_host, options.port));
  return std::unique_ptr<Transport>(std::move(transport));
}

TcpTransport::~TcpTransport() {
  alive_.reset();
  source_.events->close();
}

Status TcpTransport::register_region(const Region& region) {
  return source_.regions.add(region, capabilities().memory_kinds);
}

Status TcpTransport::deregister_region(uint32_t region) {
  const Region* found = source_.regions.find(region);
  if (found == nullptr) return not_found(fmt::format("region {} is not registered", region));
  const auto uses = [&](const TcpEndpoint* endpoint) {
    return endpoint->uses(found->base, found->bytes);
  };
  if (target_.uses(found->base, found->bytes) ||
      std::any_of(source_.endpoints.begin(), source_.endpoints.end(), uses)) {
    return resource_exhausted(fmt::format("region {} is in use by a transfer under way", region));
  }
  return source_.regions.remove(region);
}

Result<std::vector<std::byte>> TcpTransport::export_key(uint32_t region) const {
  const Region* found = source_.regions.find(region);
  if (found == nullptr) return not_found(fmt::format("region {} is not registered", region));
  return encode_region_key({incarnation_, region, found->bytes});
}

Result<std::vector<std::byte>> TcpTransport::address_for(uint64_t) {
  return listener_.address();
}

void TcpTransport::connect(uint64_t peer, const std::string& host,
                           std::span<const std::byte> address, ConnectHandler handler) {
  asio::co_spawn(
      io_,
      dial(alive_, peer, host, std::vector(address.begin(), address.end()), std::move(handler)),
      asio::detached);
}

// Looks whether the transport is still here when it begins, which may be long after it was spawned,
// and after each wait.
asio::awaitable<void> TcpTransport::dial(std::weak_ptr<Alive> alive, uint64_t peer,
                                         std::string host, std::vector<std::byte> address,
                                         ConnectHandler handler) {
  if (alive.expired()) co_return;
  const Result<uint16_t> port = ProvenListener::port_of(address);
  if (!port.ok()) {
    handler(port.status().with_context(fmt::format("tcp address of peer {:x}", peer)));
    co_return;
  }
  const uint64_t connection = random_word();
  const uint32_t streams = options_.streams;
  std::vector<Socket> sockets;
  for (uint32_t i = 0; i < streams; ++i) {
    Socket socket(io_);
    const Status status = co_await listener_.dial(socket, host, *port, peer, connection);
    if (alive.expired()) co_return;
    if (!status.ok()) {
      handler(status.with_context(fmt::format("connect to peer {:x} at {}:{}", peer, host, *port)));
      co_return;
    }
    sockets.push_back(std::move(socket));
  }
  handler(
      std::unique_ptr<Endpoint>(std::make_unique<TcpEndpoint>(source_, peer, std::move(sockets))));
}

void TcpTransport::fence(uint64_t peer) {
  target_.drop(peer);
  for (TcpEndpoint* endpoint : source_.endpoints) {
    if (endpoint->peer() == peer) endpoint->close();
  }
  // Everything of the peer came through those sockets, on this thread; they are closed.
  source_.events->fenced(peer);
}

CallCounts TcpTransport::counts() const {
  CallCounts counts = source_.ended;
  counts += target_.counts();
  for (const TcpEndpoint* endpoint : source_.endpoints) counts += endpoint->counts();
  return counts;
}

}  // namespace mempool
