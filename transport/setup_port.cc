// SPDX-License-Identifier: Apache-2.0
// Owns the coroutine that dials.
#include "transport/setup_port.h"

#include <fmt/format.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include "core/random.h"

namespace mempool {

namespace asio = boost::asio;

void SetupPort::dial(uint64_t peer, std::string host, std::span<const std::byte> address,
                     DialHandler handler) {
  asio::co_spawn(io_,
                 dial_now(alive_, peer, std::move(host),
                          std::vector(address.begin(), address.end()), std::move(handler)),
                 asio::detached);
}

asio::awaitable<void> SetupPort::dial_now(std::weak_ptr<Alive> alive, uint64_t peer,
                                          std::string host, std::vector<std::byte> address,
                                          DialHandler handler) {
  if (alive.expired()) co_return;
  const Result<uint16_t> port = ProvenListener::port_of(address);
  if (!port.ok()) {
    handler(port.status().with_context(fmt::format("address of peer {:x}", peer)));
    co_return;
  }
  Socket socket(io_);
  const Status status = co_await listener_.dial(socket, host, *port, peer, random_word());
  if (alive.expired()) co_return;
  if (status.ok()) {
    handler(std::move(socket));
  } else {
    handler(status.with_context(fmt::format("connect to peer {:x} at {}:{}", peer, host, *port)));
  }
}

}  // namespace mempool
