// SPDX-License-Identifier: Apache-2.0
// Owns the coroutines that accept and dial, and the bound on connections that have proven nothing.
#include "transport/proven_listener.h"

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
void set_buffers(Socket& socket, const SocketBuffers& buffers) {
  boost::system::error_code ignored;  // the kernel's own sizes are good enough
  if (buffers.send > 0) {
    socket.set_option(asio::socket_base::send_buffer_size(static_cast<int>(buffers.send)), ignored);
  }
  if (buffers.receive > 0) {
    socket.set_option(asio::socket_base::receive_buffer_size(static_cast<int>(buffers.receive)),
                      ignored);
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

ProvenListener::ProvenListener(asio::io_context& io, HandshakeTerms terms, SocketBuffers buffers,
                               ArrivalHandler arrived)
    : io_(io),
      terms_(std::move(terms)),
      buffers_(buffers),
      arrived_(std::move(arrived)),
      acceptor_(io) {}

ProvenListener::~ProvenListener() {
  alive_.reset();
  boost::system::error_code ignored;
  acceptor_.close(ignored);
}

Status ProvenListener::listen(const std::string& host, uint16_t port) {
  MEMPOOL_ASSIGN_OR_RETURN(const ListenSocket bound, listen_on(host, port, terms_.token));
  boost::system::error_code error;
  acceptor_.assign(bound.v6 ? tcp::v6() : tcp::v4(), bound.descriptor, error);
  if (error) {
    ::close(bound.descriptor);
    return unavailable(
        fmt::format("listen on {}: {}", join_address(host, bound.port), error.message()));
  }
  set_buffers(acceptor_, buffers_);  // accepted sockets inherit them
  asio::co_spawn(io_, accept(alive_), asio::detached);
  return {};
}

Result<std::vector<std::byte>> ProvenListener::address() const {
  boost::system::error_code error;
  const tcp::endpoint endpoint = acceptor_.local_endpoint(error);
  if (error) return unavailable(fmt::format("the listener is gone: {}", error.message()));
  std::vector<std::byte> address(kAddressBytes);
  LittleEndianWriter(address.data()).put(terms_.incarnation).put(uint16_t{endpoint.port()});
  return address;
}

Result<uint16_t> ProvenListener::port_of(std::span<const std::byte> address) {
  if (address.size() != kAddressBytes) {
    return invalid_argument(
        fmt::format("address of {} bytes, give the {} of the peer", address.size(), kAddressBytes));
  }
  LittleEndianReader reader(address.data());
  reader.get<uint64_t>();  // the handshake compares the incarnation that is really there
  return reader.get<uint16_t>();
}

// Each coroutine looks whether the listener is still here when it begins, which may be long after
// it was spawned, and after each wait.

asio::awaitable<void> ProvenListener::accept(std::weak_ptr<Alive> alive) {
  if (alive.expired()) co_return;
  asio::steady_timer pause(io_);
  for (;;) {
    auto [error, socket] = co_await acceptor_.async_accept(kAwait);
    if (alive.expired()) co_return;
    if (error) {
      pause.expires_after(kAcceptPause);
      co_await pause.async_wait(kAwait);
      if (alive.expired()) co_return;
    } else if (unproven_ < kUnprovenMax) {
      close_on_exec(socket.native_handle());
      ++unproven_;
      asio::co_spawn(io_, prove(alive, std::move(socket)), asio::detached);
    }
  }
}

asio::awaitable<void> ProvenListener::prove(std::weak_ptr<Alive> alive, Socket socket) {
  if (alive.expired()) co_return;
  make_ready(socket);
  const std::string host = host_of(socket);
  const HandshakeTerms terms = terms_;
  const Result<Dialer> dialer = co_await answer(socket, terms);
  if (alive.expired()) co_return;
  --unproven_;
  if (!dialer.ok()) {
    refusals_.warning(status_code_name(dialer.status().code()),
                      "{}: refused a connection from {}: {}", terms.transport, host,
                      dialer.status().message());
    co_return;
  }
  if (!arrived_(std::move(socket), *dialer)) {
    refusals_.warning("too many", "{}: peer {:x} at {} has as many connections as one may have",
                      terms.transport, dialer->incarnation, host);
  }
}

asio::awaitable<Status> ProvenListener::dial(Socket& socket, std::string host, uint16_t port,
                                             uint64_t peer, uint64_t connection) const {
  const HandshakeTerms terms = terms_;
  const SocketBuffers buffers = buffers_;
  std::vector<tcp::endpoint> endpoints;
  boost::system::error_code not_numeric;
  if (const auto address = asio::ip::make_address(host, not_numeric); !not_numeric) {
    endpoints.emplace_back(address, port);
  } else {
    tcp::resolver resolver(socket.get_executor());
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
    set_buffers(socket, buffers);
    const Deadline deadline(socket, terms.timeout);
    std::tie(error) = co_await socket.async_connect(endpoint, kAwait);
    if (deadline.passed()) co_return deadline.status();
    if (!error) break;
  }
  if (error) co_return unavailable(error.message());
  make_ready(socket);
  co_return co_await greet(socket, terms, peer, connection);
}

}  // namespace mempool
