// SPDX-License-Identifier: Apache-2.0
// Owns the faults of a whole transport: dropped notifications, and the buffer in which bytes are
// changed.
#include "transport/fault/fault_transport.h"

#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "transport/fault/fault_endpoint.h"

namespace mempool {
namespace {

// No agent numbers a region so.
constexpr uint32_t kBounceRegion = UINT32_MAX;
constexpr uint64_t kBounceBytesMax = uint64_t{16} << 20;

}  // namespace

TransportRegistry::Factory FaultTransport::around(TransportRegistry::Factory inner,
                                                  FaultPlan plan) {
  return [inner = std::move(inner),
          plan](const TransportContext& context) -> Result<std::unique_ptr<Transport>> {
    std::unique_ptr<FaultTransport> transport(new FaultTransport(context, plan));
    MEMPOOL_RETURN_IF_ERROR(transport->open_inner(inner, context));
    return std::unique_ptr<Transport>(std::move(transport));
  };
}

FaultTransport::FaultTransport(const TransportContext& context, FaultPlan plan)
    : ForwardingTransport(nullptr),
      io_(*context.io),
      events_(*context.events),
      plan_(plan),
      random_(plan.seed),
      notification_random_(~plan.seed),
      queue_(std::make_shared<EventQueue>(*context.loop, events_)) {}

FaultTransport::~FaultTransport() {
  set_inner(nullptr);  // it still knows this as its events
  queue_->close();
}

Status FaultTransport::open_inner(const TransportRegistry::Factory& factory,
                                  TransportContext context) {
  context.events = this;
  MEMPOOL_ASSIGN_OR_RETURN(std::unique_ptr<Transport> inner, factory(context));
  set_inner(std::move(inner));
  if (plan_.corrupt == 0 && plan_.land_late == 0) return {};
  bounce_.resize(std::min(capabilities().message_bytes, kBounceBytesMax));
  Region region;
  region.id = kBounceRegion;
  region.base = bounce_.data();
  region.bytes = bounce_.size();
  return this->inner().register_region(region);
}

Status FaultTransport::register_region(const Region& region) {
  MEMPOOL_RETURN_IF_ERROR(inner().register_region(region));
  return regions_.add(region, capabilities().memory_kinds);
}

Status FaultTransport::deregister_region(uint32_t region) {
  MEMPOOL_RETURN_IF_ERROR(inner().deregister_region(region));
  return regions_.remove(region);
}

std::unique_ptr<Endpoint> FaultTransport::wrap(std::unique_ptr<Endpoint> endpoint) {
  return std::make_unique<FaultEndpoint>(std::move(endpoint), *this);
}

void FaultTransport::on_completion(uint64_t cookie, const Status& status) {
  if (bounce_taken_ && cookie == bounce_cookie_) bounce_taken_ = false;
  if (cookie != FaultEndpoint::kLateCookie) events_.on_completion(cookie, status);
}

void FaultTransport::on_notified(uint64_t peer, Slot slot) {
  if (!notification_random_.chance(plan_.drop_notification)) events_.on_notified(peer, slot);
}

bool FaultTransport::fill_bounce(const Call& call, std::vector<RunPair>& pairs) {
  if (bounce_taken_) return false;
  uint64_t used = 0;
  pairs.assign(call.pairs.begin(), call.pairs.end());
  for (RunPair& pair : pairs) {
    const std::byte* from = regions_.resolve(pair.local_region, pair.local_offset, pair.bytes);
    if (from == nullptr || pair.bytes > bounce_.size() - used) return false;
    std::memcpy(bounce_.data() + used, from, pair.bytes);
    pair.local_region = kBounceRegion;
    pair.local_offset = used;
    used += pair.bytes;
  }
  bounce_taken_ = used > 0;
  bounce_cookie_ = call.cookie;
  return bounce_taken_;
}

}  // namespace mempool
