// SPDX-License-Identifier: Apache-2.0
// Owns the connecting and accepting of the tcp backend, as coroutines on its io_context.
#include "transport/tcp/tcp_transport.h"

#include <fmt/format.h>
#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "core/check.h"
#include "core/close_on_exec.h"
#include "core/listen_socket.h"
#include "core/random.h"
#include "transport/little_endian.h"

namespace mempool {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr size_t kAddressBytes = sizeof(uint64_t) + sizeof(uint16_t);
// Pause after an accept that failed, for one of out of descriptors.
constexpr std::chrono::milliseconds kAcceptPause{100};

template <typename Socket>
void set_buffers(Socket& socket, const TcpOptions& options) {
  boost::system::error_code ignored;  // the kernel's own sizes are good enough
  if (options.send_buffer > 0) {
    socket.set_option(asio::socket_base::send_buffer_size(static_cast<int>(options.send_buffer)),
                      ignored);
  }
  if (options.receive_buffer > 0) {
    socket.set_option(
        asio::socket_base::receive_buffer_size(static_cast<int>(options.receive_buffer)), ignored);
  }
}

void make_ready(tcp::socket& socket) {
  boost::system::error_code ignored;  // a dead socket says so at its first use
  socket.set_option(tcp::no_delay(true), ignored);
  socket.native_non_blocking(true, ignored);
}

std::string host_of(const tcp::socket& socket) {
  boost::system::error_code error;
  const tcp::endpoint endpoint = socket.remote_endpoint(error);
  return error ? "a host that has gone" : endpoint.address().to_string();
}

}  // namespace

TcpTransport::TcpTransport(const TransportContext& context, TcpOptions options)
    : io_(*context.io),
      options_(options),
      terms_{context.incarnation, context.token, options.handshake_timeout},
      source_{{}, std::make_shared<EventQueue>(io_, *context.events), {}, {}},
      target_(source_.regions, *source_.events, *context.events),
      acceptor_(io_) {}

Result<std::unique_ptr<Transport>> TcpTransport::open(const TransportContext& context) {
  MEMPOOL_ASSIGN_OR_RETURN(const TcpOptions options, TcpOptions::parse(context.options));
  std::unique_ptr<TcpTransport> transport(new TcpTransport(context, options));
  MEMPOOL_RETURN_IF_ERROR(transport->listen(context.bind_host));
  asio::co_spawn(*context.io, transport->accept(transport->alive_), asio::detached);
  return std::unique_ptr<Transport>(std::move(transport));
}

TcpTransport::~TcpTransport() {
  alive_.reset();
  source_.events->close();
  boost::system::error_code ignored;
  acceptor_.close(ignored);
}

Status TcpTransport::listen(const std::string& host) {
  MEMPOOL_ASSIGN_OR_RETURN(const ListenSocket bound, listen_on(host, options_.port, terms_.token));
  boost::system::error_code error;
  acceptor_.assign(bound.v6 ? tcp::v6() : tcp::v4(), bound.descriptor, error);
  if (error) {
    ::close(bound.descriptor);
    return unavailable(
        fmt::format("listen on {}: {}", join_address(host, bound.port), error.message()));
  }
  set_buffers(acceptor_, options_);  // accepted sockets inherit them
  return {};
}

// Each coroutine looks whether the transport is still here when it begins, which may be long after
// it was spawned, and after each wait.

asio::awaitable<void> TcpTransport::accept(std::weak_ptr<Alive> alive) {
  if (alive.expired()) co_return;
  asio::steady_timer pause(io_);
  for (;;) {
    auto [error, socket] = co_await acceptor_.async_accept(kAwait);
    if (alive.expired()) co_return;
    if (error) {
      pause.expires_after(kAcceptPause);
      co_await pause.async_wait(kAwait);
      if (alive.expired()) co_return;
    } else if (unproven_ < kTcpUnprovenMax) {
      close_on_exec(socket.native_handle());
      ++unproven_;
      asio::co_spawn(io_, prove(alive, std::move(socket)), asio::detached);
    }
  }
}

asio::awaitable<void> TcpTransport::prove(std::weak_ptr<Alive> alive, Socket socket) {
  if (alive.expired()) co_return;
  make_ready(socket);
  const std::string host = host_of(socket);
  const HandshakeTerms terms = terms_;
  const Result<Dialer> dialer = co_await answer(socket, terms);
  if (alive.expired()) co_return;
  --unproven_;
  if (!dialer.ok()) {
    refusals_.warning(status_code_name(dialer.status().code()),
                      "tcp: refused a connection from {}: {}", host, dialer.status().message());
    co_return;
  }
  if (!target_.adopt(std::move(socket), *dialer)) {
    refusals_.warning("too many", "tcp: peer {:x} at {} has as many connections as one may have",
                      dialer->incarnation, host);
  }
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
  return encode_region_key({terms_.incarnation, region, found->bytes});
}

Result<std::vector<std::byte>> TcpTransport::address_for(uint64_t) {
  boost::system::error_code error;
  const tcp::endpoint endpoint = acceptor_.local_endpoint(error);
  if (error) return unavailable(fmt::format("the listener is gone: {}", error.message()));
  std::vector<std::byte> address(kAddressBytes);
  LittleEndianWriter(address.data()).put(terms_.incarnation).put(uint16_t{endpoint.port()});
  return address;
}

void TcpTransport::connect(uint64_t peer, const std::string& host,
                           std::span<const std::byte> address, ConnectHandler handler) {
  asio::co_spawn(
      io_,
      dial(alive_, peer, host, std::vector(address.begin(), address.end()), std::move(handler)),
      asio::detached);
}

asio::awaitable<void> TcpTransport::dial(std::weak_ptr<Alive> alive, uint64_t peer,
                                         std::string host, std::vector<std::byte> address,
                                         ConnectHandler handler) {
  if (alive.expired()) co_return;
  if (address.size() != kAddressBytes) {
    handler(invalid_argument(fmt::format("tcp address of peer {:x}: {} bytes, give {}", peer,
                                         address.size(), kAddressBytes)));
    co_return;
  }
  LittleEndianReader reader(address.data());
  reader.get<uint64_t>();  // the handshake compares the incarnation that is really there
  const auto port = reader.get<uint16_t>();
  const uint64_t connection = random_word();
  const uint32_t streams = options_.streams;
  std::vector<Socket> sockets;
  for (uint32_t i = 0; i < streams; ++i) {
    Socket socket(io_);
    const Status status = co_await dial_stream(socket, host, port, peer, connection);
    if (alive.expired()) co_return;
    if (!status.ok()) {
      handler(status.with_context(fmt::format("connect to peer {:x} at {}:{}", peer, host, port)));
      co_return;
    }
    sockets.push_back(std::move(socket));
  }
  handler(
      std::unique_ptr<Endpoint>(std::make_unique<TcpEndpoint>(source_, peer, std::move(sockets))));
}

asio::awaitable<Status> TcpTransport::dial_stream(Socket& socket, std::string host, uint16_t port,
                                                  uint64_t peer, uint64_t connection) {
  const HandshakeTerms terms = terms_;
  const TcpOptions options = options_;
  std::vector<tcp::endpoint> endpoints;
  boost::system::error_code not_numeric;
  if (const auto address = asio::ip::make_address(host, not_numeric); !not_numeric) {
    endpoints.emplace_back(address, port);
  } else {
    tcp::resolver resolver(io_);
    const auto [unknown, found] =
        co_await resolver.async_resolve(host, fmt::to_string(port), kAwait);
    if (unknown) co_return unavailable(fmt::format("resolve: {}", unknown.message()));
    for (const auto& entry : found) endpoints.push_back(entry.endpoint());
  }
  boost::system::error_code error = asio::error::host_not_found;
  for (const tcp::endpoint& endpoint : endpoints) {
    socket.close(error);
    socket.open(endpoint.protocol(), error);
    if (error) continue;
    close_on_exec(socket.native_handle());
    set_buffers(socket, options);
    const Deadline deadline(socket, options.handshake_timeout);
    std::tie(error) = co_await socket.async_connect(endpoint, kAwait);
    if (deadline.passed()) co_return deadline.status();
    if (!error) break;
  }
  if (error) co_return unavailable(error.message());
  make_ready(socket);
  co_return co_await greet(socket, terms, peer, connection);
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
