// SPDX-License-Identifier: Apache-2.0
// Owns the local backend's memory, connecting and fence.
#include "transport/local/local_transport.h"

#include <fmt/format.h>

#include <limits>

#include "core/check.h"
#include "transport/little_endian.h"
#include "transport/local/local_endpoint.h"

namespace mempool {
namespace {

constexpr size_t kAddressBytes = sizeof(uint64_t);

Capabilities local_capabilities() {
  Capabilities capabilities;
  capabilities.name = "local";
  capabilities.write = true;
  capabilities.read = true;
  capabilities.notify = true;
  capabilities.reads_at_post = true;
  capabilities.counts_system_calls = true;
  capabilities.gather_pieces = std::numeric_limits<uint32_t>::max();
  capabilities.scatter_pieces = std::numeric_limits<uint32_t>::max();
  capabilities.remote_ranges = std::numeric_limits<uint32_t>::max();
  capabilities.message_bytes = uint64_t{4} << 20;  // bounds how long one post() takes
  capabilities.calls_in_flight = 64;
  capabilities.reads_in_flight = 64;
  return capabilities;
}

}  // namespace

LocalTransport::LocalTransport(const TransportContext& context)
    : io_(*context.io),
      port_(std::make_shared<LocalPort>(
          io_, std::make_shared<EventQueue>(*context.loop, *context.events), context.incarnation)) {
}

Result<std::unique_ptr<Transport>> LocalTransport::open(const TransportContext& context) {
  std::unique_ptr<LocalTransport> transport(new LocalTransport(context));
  MEMPOOL_RETURN_IF_ERROR(LocalPort::list(transport->port_));
  transport->listed_ = true;
  return std::unique_ptr<Transport>(std::move(transport));
}

LocalTransport::~LocalTransport() {
  if (listed_) port_->close();
  port_->events().close();
}

const Capabilities& LocalTransport::capabilities() const {
  static const Capabilities capabilities = local_capabilities();
  return capabilities;
}

Status LocalTransport::register_region(const Region& region) {
  MEMPOOL_RETURN_IF_ERROR(regions_.add(region, capabilities().memory_kinds));
  port_->add_region(region);
  return {};
}

Status LocalTransport::deregister_region(uint32_t region) {
  MEMPOOL_RETURN_IF_ERROR(regions_.remove(region));
  port_->remove_region(region);
  return {};
}

Result<std::vector<std::byte>> LocalTransport::export_key(uint32_t region) const {
  const Region* found = regions_.find(region);
  if (found == nullptr) return not_found(fmt::format("region {} is not registered", region));
  return encode_region_key({port_->incarnation(), region, found->bytes});
}

Result<std::vector<std::byte>> LocalTransport::address_for(uint64_t) {
  std::vector<std::byte> address(kAddressBytes);
  LittleEndianWriter(address.data()).put(port_->incarnation());
  return address;
}

Result<std::unique_ptr<Endpoint>> LocalTransport::dial(uint64_t peer,
                                                       std::span<const std::byte> address) {
  if (address.size() != kAddressBytes) {
    return invalid_argument(fmt::format("address of local peer {:x}: {} bytes, give {}", peer,
                                        address.size(), kAddressBytes));
  }
  const auto found = LittleEndianReader(address.data()).get<uint64_t>();
  if (found != peer) {
    return stale(fmt::format("the address is of incarnation {:x}, not {:x}; ask the peer anew",
                             found, peer));
  }
  const std::shared_ptr<LocalPort> target = LocalPort::find(peer);
  if (!target) return unavailable(fmt::format("incarnation {:x} is not in this process", peer));
  return std::unique_ptr<Endpoint>(std::make_unique<LocalEndpoint>(*this, target->door(port_)));
}

void LocalTransport::connect(uint64_t peer, const std::string&, std::span<const std::byte> address,
                             ConnectHandler handler) {
  port_->deliver([this, peer, bytes = std::vector(address.begin(), address.end()),
                  handler = std::move(handler)](LocalPort&) { handler(dial(peer, bytes)); });
}

Status LocalTransport::open_slot(uint64_t peer, Slot slot) {
  return port_->events().slots().open(peer, slot);
}

void LocalTransport::close_slot(uint64_t peer, Slot slot) {
  port_->events().slots().close(peer, slot);
}

void LocalTransport::fence(uint64_t peer) {
  for (LocalEndpoint* endpoint : endpoints_) {
    if (endpoint->peer() == peer) endpoint->shut();
  }
  port_->events().slots().forget(peer);
  const std::shared_ptr<LocalDoor> door = port_->take_door(peer);
  if (!door) return port_->events().fenced(peer);
  if (door->calls.close()) port_->events().fenced(peer);  // else the last copy says so
  door->source->deliver([target = port_->incarnation()](LocalPort& port) {
    port.events().lost(target, Direction::kOutbound,
                       unavailable(fmt::format("local peer {:x} has fenced us", target)));
  });
}

CallCounts LocalTransport::counts() const {
  CallCounts counts = ended_;
  for (const LocalEndpoint* endpoint : endpoints_) counts += endpoint->counts();
  return counts;
}

}  // namespace mempool
