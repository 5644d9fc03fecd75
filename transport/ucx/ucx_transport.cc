// SPDX-License-Identifier: Apache-2.0
// Owns the opening, connecting and fencing of the ucx backend.
#include "transport/ucx/ucx_transport.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/check.h"
#include "transport/ucx/ucx_self_test.h"
#include "transport/ucx/ucx_words.h"

namespace mempool {
namespace {

Capabilities ucx_capabilities(const UcxOptions& options, const UcxContext& ucx) {
  Capabilities capabilities;
  capabilities.name = "ucx";
  capabilities.write = true;
  capabilities.read = true;
  capabilities.notify = true;
  capabilities.rdma = all_rdma(ucx.resources());
  capabilities.message_bytes = options.message_bytes;
  capabilities.calls_in_flight = options.calls_in_flight;
  capabilities.reads_in_flight = options.calls_in_flight;
  return capabilities;
}

}  // namespace

UcxTransport::UcxTransport(const TransportContext& context, const UcxOptions& options,
                           std::unique_ptr<UcxContext> ucx, Capabilities capabilities)
    : options_(options),
      ucx_(std::move(ucx)),
      source_{*context.loop,
              ucx_->handle(),
              std::move(capabilities),
              {ucx_->handle(), context.incarnation},
              std::make_shared<EventQueue>(*context.loop, *context.events),
              {},
              {}},
      target_(ucx_->handle(), *context.loop, *source_.events, options.handshake_timeout),
      tell_fenced_(context.loop->make_task([this] {
        for (const Opening& opening : std::exchange(fenced_, {})) {
          opening.handler(unavailable(
              fmt::format("connect to peer {:x}: it was fenced here meanwhile", opening.peer)));
        }
      })) {
  source_.ended.system_calls.reset();  // UCX's are its own
}

Result<std::unique_ptr<Transport>> UcxTransport::open(const TransportContext& context) {
  MEMPOOL_ASSIGN_OR_RETURN(const UcxOptions options, UcxOptions::parse(context.options));
  MEMPOOL_ASSIGN_OR_RETURN(std::unique_ptr<UcxContext> ucx, UcxContext::open(options));
  Capabilities capabilities = ucx_capabilities(options, *ucx);
  if (options.self_test) {
    const Status tested = test_ucx(ucx->handle(), capabilities);
    if (!tested.ok()) return with_mend(tested, kSelfTestMend);
  }
  std::unique_ptr<UcxTransport> transport(
      new UcxTransport(context, options, std::move(ucx), std::move(capabilities)));
  const SetupTerms terms{
      "ucx",       context.incarnation, context.token, options.handshake_timeout, context.bind_host,
      options.port};
  MEMPOOL_ASSIGN_OR_RETURN(
      transport->port_,
      context.loop->open_setup_port(
          terms, [target = &transport->target_](std::shared_ptr<SetupLink> link, uint64_t peer) {
            target->adopt(std::move(link), peer);
            return true;
          }));
  return std::unique_ptr<Transport>(std::move(transport));
}

UcxTransport::~UcxTransport() {
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
  return port_->address();
}

void UcxTransport::connect(uint64_t peer, const std::string& host,
                           std::span<const std::byte> address, ConnectHandler handler) {
  const uint64_t number = next_opening_++;
  opening_[number] = {peer, nullptr, std::move(handler)};
  port_->dial(peer, host, address, [this, number](Result<std::shared_ptr<SetupLink>> link) {
    begin(number, std::move(link));
  });
}

void UcxTransport::begin(uint64_t number, Result<std::shared_ptr<SetupLink>> link) {
  const auto found = opening_.find(number);
  if (found == opening_.end()) return;  // its peer was fenced
  if (!link.ok()) {
    const Opening opening = std::move(opening_.extract(found).mapped());
    return opening.handler(link.status());
  }
  found->second.endpoint = std::make_unique<UcxEndpoint>(
      source_, found->second.peer, std::move(link).value(), options_.handshake_timeout,
      [this, number](const Status& status) { finish(number, status); });
}

void UcxTransport::finish(uint64_t number, const Status& status) {
  Opening opening = std::move(opening_.extract(number).mapped());
  if (!status.ok()) {
    return opening.handler(status.with_context(fmt::format("connect to peer {:x}", opening.peer)));
  }
  opening.handler(std::unique_ptr<Endpoint>(std::move(opening.endpoint)));
}

void UcxTransport::end_openings(uint64_t peer) {
  for (auto at = opening_.begin(); at != opening_.end();) {
    if (at->second.peer != peer) {
      ++at;
      continue;
    }
    at->second.endpoint.reset();
    fenced_.push_back(std::move(at->second));
    at = opening_.erase(at);
  }
  if (!fenced_.empty()) tell_fenced_->schedule();
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
  end_openings(peer);
  // Its way to our memory was through workers of its own, which are destroyed.
  source_.events->fenced(peer);
}

CallCounts UcxTransport::counts() const {
  CallCounts counts = source_.ended;
  counts.strays = target_.strays();
  for (const UcxEndpoint* endpoint : source_.endpoints) counts += endpoint->counts();
  return counts;
}

}  // namespace mempool
