// SPDX-License-Identifier: Apache-2.0
// Owns the connecting of the ucx backend, as a coroutine on its io_context.
#include "transport/ucx/ucx_transport.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include "core/check.h"
#include "core/random.h"
#include "transport/ucx/ucx_self_test.h"

namespace mempool {
namespace {

namespace asio = boost::asio;

Capabilities ucx_capabilities(const UcxOptions& options, const UcxContext& ucx) {
  Capabilities capabilities;
  capabilities.name = "ucx";
  capabilities.write = true;
  capabilities.read = true;
  capabilities.notify = true;
  capabilities.rdma = ucx.has_rdma();
  capabilities.message_bytes = options.message_bytes;
  capabilities.calls_in_flight = options.calls_in_flight;
  capabilities.reads_in_flight = options.calls_in_flight;
  return capabilities;
}

}  // namespace

UcxTransport::UcxTransport(const TransportContext& context, const UcxOptions& options,
                           std::unique_ptr<UcxContext> ucx, Capabilities capabilities)
    : io_(*context.io),
      options_(options),
      ucx_(std::move(ucx)),
      source_{io_,
              ucx_->handle(),
              std::move(capabilities),
              {ucx_->handle(), context.incarnation},
              std::make_shared<EventQueue>(io_, *context.events),
              {},
              {}},
      target_(ucx_->handle(), io_, *source_.events),
      listener_(io_, {"ucx", context.incarnation, context.token, options.handshake_timeout},
                SocketBuffers{}, [this](Socket socket, const Dialer& dialer) {
                  return target_.adopt(std::move(socket), dialer);
                }) {
  source_.ended.system_calls.reset();  // UCX's are its own
}

Result<std::unique_ptr<Transport>> UcxTransport::open(const TransportContext& context) {
  MEMPOOL_ASSIGN_OR_RETURN(const UcxOptions options, UcxOptions::parse(context.options));
  MEMPOOL_ASSIGN_OR_RETURN(std::unique_ptr<UcxContext> ucx, UcxContext::open(options));
  Capabilities capabilities = ucx_capabilities(options, *ucx);
  if (options.self_test) MEMPOOL_RETURN_IF_ERROR(test_ucx(ucx->handle(), capabilities));
  std::unique_ptr<UcxTransport> transport(
      new UcxTransport(context, options, std::move(ucx), std::move(capabilities)));
  MEMPOOL_RETURN_IF_ERROR(transport->listener_.listen(context.bind_host, options.port));
  return std::unique_ptr<Transport>(std::move(transport));
}

UcxTransport::~UcxTransport() {
  alive_.reset();
  source_.events->close();
}

Status UcxTransport::register_region(const Region& region) {
  return source_.memory.add(region, capabilities().memory_kinds);
}

Status UcxTransport::deregister_region(uint32_t region) {
  if (std::ranges::any_of(source_.endpoints,
                          [&](const UcxEndpoint* endpoint) { return endpoint->uses(region); })) {
    return resource_exhausted(fmt::format("region {} is in use by a transfer under way", region));
  }
  return source_.memory.remove(region);
}

Result<std::vector<std::byte>> UcxTransport::export_key(uint32_t region) const {
  return source_.memory.key_of(region);
}

Result<std::vector<std::byte>> UcxTransport::address_for(uint64_t) {
  return listener_.address();
}

void UcxTransport::connect(uint64_t peer, const std::string& host,
                           std::span<const std::byte> address, ConnectHandler handler) {
  asio::co_spawn(
      io_,
      dial(alive_, peer, host, std::vector(address.begin(), address.end()), std::move(handler)),
      asio::detached);
}

// Looks whether the transport is still here when it begins, which may be long after it was spawned,
// and after each wait.
asio::awaitable<void> UcxTransport::dial(std::weak_ptr<Alive> alive, uint64_t peer,
                                         std::string host, std::vector<std::byte> address,
                                         ConnectHandler handler) {
  if (alive.expired()) co_return;
  const Result<uint16_t> port = ProvenListener::port_of(address);
  if (!port.ok()) {
    handler(port.status().with_context(fmt::format("ucx address of peer {:x}", peer)));
    co_return;
  }
  const std::string where = fmt::format("connect to peer {:x} at {}:{}", peer, host, *port);
  Socket socket(io_);
  const Status status = co_await listener_.dial(socket, host, *port, peer, random_word());
  if (alive.expired()) co_return;
  if (!status.ok()) {
    handler(status.with_context(where));
    co_return;
  }
  open_endpoint(peer, std::move(socket), where, std::move(handler));
}

void UcxTransport::open_endpoint(uint64_t peer, Socket socket, const std::string& where,
                                 ConnectHandler handler) {
  const uint64_t number = next_opening_++;
  const auto opened = [this, number, where](const Status& status) {
    Opening opening = std::move(opening_.extract(number).mapped());
    if (!status.ok()) return opening.handler(status.with_context(where));
    opening.handler(std::unique_ptr<Endpoint>(std::move(opening.endpoint)));
  };
  opening_[number] = {std::make_unique<UcxEndpoint>(source_, peer, std::move(socket),
                                                    options_.handshake_timeout, opened),
                      std::move(handler)};
}

Status UcxTransport::open_slot(uint64_t peer, Slot slot) {
  return source_.events->slots().open(peer, slot);
}

void UcxTransport::close_slot(uint64_t peer, Slot slot) {
  source_.events->slots().close(peer, slot);
}

void UcxTransport::fence(uint64_t peer) {
  target_.drop(peer);
  for (UcxEndpoint* endpoint : source_.endpoints) {
    if (endpoint->peer() == peer) endpoint->close();
  }
  // Its way to our memory was through workers of its own, which are destroyed.
  source_.events->fenced(peer);
}

CallCounts UcxTransport::counts() const {
  CallCounts counts = source_.ended;
  for (const UcxEndpoint* endpoint : source_.endpoints) counts += endpoint->counts();
  return counts;
}

}  // namespace mempool
