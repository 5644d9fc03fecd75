// SPDX-License-Identifier: Apache-2.0
// Owns the opening, connecting and fencing of the verbs backend.
#include "transport/verbs/verbs_transport.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/check.h"
#include "core/log.h"
#include "transport/verbs/self_test.h"

namespace mempool {
namespace {

// Of one endpoint over all of its lanes; each call keeps the places of its pieces.
constexpr uint32_t kCallsInFlightMost = 512;

Capabilities capabilities_of(const VerbsDevices& devices, const VerbsOptions& options,
                             const GrantedPieces& granted) {
  Capabilities offers;
  offers.name = "verbs";
  offers.write = true;
  offers.read = true;
  offers.notify = true;
  offers.rdma = true;
  offers.gather_pieces = granted.send;
  offers.scatter_pieces = granted.read;
  offers.message_bytes = options.message_bytes;
  const auto lanes = static_cast<uint32_t>(devices.size() * options.queue_pairs);
  offers.calls_in_flight =
      std::min(options.queue_depth * lanes, std::max(options.queue_depth, kCallsInFlightMost));
  offers.reads_in_flight = offers.calls_in_flight;
  bool dmabuf = true;
  for (const auto& device : devices) {
    offers.message_bytes = std::min(offers.message_bytes, device->message_bytes());
    dmabuf = dmabuf && device->registers_dmabuf();
  }
  if (dmabuf) offers.memory_kinds |= static_cast<uint8_t>(MemoryKind::kDevice);
  return offers;
}

/// Turn off the devices that change a pattern; gives what all others grant. Errors: the first one's
/// where none is left, or where config names it.
Result<GrantedPieces> test_devices(VerbsDevices& devices, const VerbsOptions& options) {
  GrantedPieces all{UINT32_MAX, UINT32_MAX};
  Status first;
  for (auto device = devices.begin(); device != devices.end();) {
    const Result<GrantedPieces> granted = granted_pieces(**device, options);
    Status tested = granted.status();
    if (tested.ok() && options.self_test) tested = test_device(**device, options, *granted);
    if (tested.ok()) {
      all.send = std::min(all.send, granted->send);
      all.read = std::min(all.read, granted->read);
      ++device;
      continue;
    }
    log().warning("verbs: {} is off: {}", (*device)->name(), tested.message());
    if (first.ok()) first = tested;
    device = devices.erase(device);
  }
  const bool named = options.devices.front() != "auto";
  if (!first.ok() && (devices.empty() || named)) return first;
  return all;
}

Status check_lanes(const VerbsDevices& devices, const VerbsOptions& options) {
  const size_t lanes = devices.size() * options.queue_pairs;
  if (lanes <= kLanesMost) return {};
  return invalid_argument(
      fmt::format("{} devices of verbs.queue_pairs = {} make {} queue pairs to a peer, and {} is "
                  "the most; name fewer verbs.devices",
                  devices.size(), options.queue_pairs, lanes, kLanesMost));
}

}  // namespace

VerbsTransport::VerbsTransport(std::unique_ptr<VerbsShared> shared)
    : shared_(std::move(shared)), target_(*shared_) {}

Result<std::unique_ptr<Transport>> VerbsTransport::open(const TransportContext& context) {
  MEMPOOL_ASSIGN_OR_RETURN(const VerbsOptions options, VerbsOptions::parse(context.options));
  // It says no when another library in the process was first, which has seen to it.
  (void)ibv_fork_init();
  MEMPOOL_ASSIGN_OR_RETURN(VerbsDevices devices, open_devices(options));
  MEMPOOL_ASSIGN_OR_RETURN(const GrantedPieces granted, test_devices(devices, options));
  MEMPOOL_RETURN_IF_ERROR(check_lanes(devices, options));
  std::vector<std::unique_ptr<CompletionChannel>> channels;
  for (const auto& device : devices) {
    MEMPOOL_ASSIGN_OR_RETURN(auto channel,
                             CompletionChannel::create(*device, *context.loop, options.spin));
    channels.push_back(std::move(channel));
    log().info("verbs: {} speaks {}, MTU {}, {} pieces a write and {} a read", device->name(),
               to_string(device->address().kind), device->address().mtu, granted.send,
               granted.read);
  }
  auto shared = std::make_unique<VerbsShared>(
      *context.loop, options, context.incarnation, std::move(devices), std::move(channels),
      std::make_shared<EventQueue>(*context.loop, *context.events));
  shared->capabilities = capabilities_of(shared->devices, options, granted);
  shared->requests.resize(options.queue_depth);
  shared->pieces.resize(size_t{options.queue_depth} * std::max(granted.send, granted.read));
  std::unique_ptr<VerbsTransport> transport(new VerbsTransport(std::move(shared)));
  for (size_t i = 0; i < transport->shared_->devices.size(); ++i) {
    transport->shared_->channels[i]->on_failure([shared = transport->shared_.get(), i] {
      for (VerbsEndpoint* endpoint : shared->endpoints) endpoint->device_failed(i);
    });
  }
  MEMPOOL_RETURN_IF_ERROR(transport->target_.open());
  const SetupTerms terms{"verbs",           context.incarnation,
                         context.token,     options.handshake_timeout,
                         context.bind_host, options.port};
  MEMPOOL_ASSIGN_OR_RETURN(
      transport->port_,
      context.loop->open_setup_port(
          terms, [target = &transport->target_](std::shared_ptr<SetupLink> link, uint64_t peer) {
            return target->adopt(std::move(link), peer);
          }));
  return std::unique_ptr<Transport>(std::move(transport));
}

VerbsTransport::~VerbsTransport() {
  shared_->events->close();
}

Status VerbsTransport::register_region(const Region& region) {
  return shared_->memory.add(region, shared_->capabilities.memory_kinds);
}

Result<std::vector<std::byte>> VerbsTransport::export_key(uint32_t region) const {
  return shared_->memory.key(region, shared_->incarnation);
}

Result<std::vector<std::byte>> VerbsTransport::address_for(uint64_t) {
  return port_->address();
}

void VerbsTransport::connect(uint64_t peer, const std::string& host,
                             std::span<const std::byte> address, ConnectHandler handler) {
  port_->dial(peer, host, address,
              [this, peer, handler = std::move(handler)](Result<std::shared_ptr<SetupLink>> link) {
                if (!link.ok()) return handler(link.status());
                begin(peer, std::move(link).value(), handler);
              });
}

void VerbsTransport::begin(uint64_t peer, std::shared_ptr<SetupLink> link, ConnectHandler handler) {
  auto made = std::make_unique<VerbsEndpoint>(*shared_, peer);
  VerbsEndpoint* const endpoint = made.get();
  const auto ready = [this, endpoint, handler](const Status& status) {
    const auto found = std::ranges::find(dialing_, endpoint, &std::unique_ptr<VerbsEndpoint>::get);
    MEMPOOL_CHECK(found != dialing_.end());
    std::unique_ptr<VerbsEndpoint> connected = std::move(*found);
    dialing_.erase(found);
    if (!status.ok()) return handler(status);
    handler(std::unique_ptr<Endpoint>(std::move(connected)));
  };
  const Status begun = endpoint->begin(std::move(link), ready);
  if (!begun.ok()) return handler(begun.with_context(fmt::format("connect to peer {:x}", peer)));
  dialing_.push_back(std::move(made));
}

Status VerbsTransport::open_slot(uint64_t peer, Slot slot) {
  return shared_->events->slots().open(peer, slot);
}

void VerbsTransport::close_slot(uint64_t peer, Slot slot) {
  shared_->events->slots().close(peer, slot);
}

void VerbsTransport::fence(uint64_t peer) {
  target_.drop(peer);
  for (VerbsEndpoint* endpoint : shared_->endpoints) {
    if (endpoint->peer() == peer) endpoint->close();
  }
  shared_->events->slots().forget(peer);
  shared_->events->fenced(peer);
}

CallCounts VerbsTransport::counts() const {
  CallCounts counts = shared_->ended;
  counts += target_.counts();
  for (const VerbsEndpoint* endpoint : shared_->endpoints) counts += endpoint->counts();
  return counts;
}

}  // namespace mempool
