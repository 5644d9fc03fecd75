// SPDX-License-Identifier: Apache-2.0
// Owns the copies of the local backend.
#include "transport/local/local_endpoint.h"

#include <fmt/format.h>

#include <cstring>

#include "core/check.h"

namespace mempool {

LocalEndpoint::LocalEndpoint(LocalTransport& transport, std::shared_ptr<LocalDoor> door)
    : transport_(transport), door_(std::move(door)) {
  transport_.endpoints_.push_back(this);
}

LocalEndpoint::~LocalEndpoint() {
  close();
  std::erase(transport_.endpoints_, this);
  transport_.ended_ += counts_;
}

Status LocalEndpoint::import_key(uint32_t remote_region, std::span<const std::byte> key) {
  MEMPOOL_ASSIGN_OR_RETURN(const RegionKey parsed, decode_region_key(key, peer(), remote_region));
  std::shared_ptr<LocalRegion> region = door_->target->region(parsed.region);
  if (!region) {
    return invalid_argument(fmt::format("peer {:x} has no region {}", peer(), remote_region));
  }
  remote_[remote_region] = std::move(region);
  return {};
}

Status LocalEndpoint::check_open() const {
  if (closed_ || door_->calls.closed()) {
    return unavailable(fmt::format("the connection to local peer {:x} is closed", peer()));
  }
  const uint32_t limit = transport_.capabilities().calls_in_flight;
  if (*in_flight_ < limit) return {};
  return resource_exhausted(
      fmt::format("{} calls to local peer {:x} are under way", limit, peer()));
}

Status LocalEndpoint::check(const Call& call) const {
  uint64_t bytes = 0;
  for (const RunPair& pair : call.pairs) {
    if (transport_.regions_.resolve(pair.local_region, pair.local_offset, pair.bytes) == nullptr) {
      return invalid_argument(fmt::format("{} bytes at {} of local region {} are not registered",
                                          pair.bytes, pair.local_offset, pair.local_region));
    }
    const auto remote = remote_.find(pair.remote_region);
    if (remote == remote_.end() ||
        !lies_inside(remote->second->region.bytes, pair.remote_offset, pair.bytes)) {
      return invalid_argument(
          fmt::format("{} bytes at {} of region {} of peer {:x} are outside what its keys name",
                      pair.bytes, pair.remote_offset, pair.remote_region, peer()));
    }
    bytes += pair.bytes;
  }
  const uint64_t limit = transport_.capabilities().message_bytes;
  if (bytes <= limit) return {};
  return unsupported(fmt::format("a call of {} bytes, local takes {}", bytes, limit));
}

Status LocalEndpoint::post(const Call& call) {
  MEMPOOL_RETURN_IF_ERROR(check_open());
  MEMPOOL_RETURN_IF_ERROR(check(call));
  if (!door_->calls.enter()) {
    return unavailable(fmt::format("local peer {:x} has fenced us", peer()));
  }
  Status status = copy(call);
  if (door_->calls.leave()) door_->drained();
  ++counts_.network_calls;
  counts_.run_pairs += call.pairs.size();
  ++*in_flight_;
  transport_.port_->events().completed(call.cookie, std::move(status), in_flight_);
  return {};
}

Status LocalEndpoint::copy(const Call& call) {
  for (const RunPair& pair : call.pairs) {
    MEMPOOL_RETURN_IF_ERROR(copy_pair(call, pair));
    counts_.bytes += pair.bytes;
  }
  return {};
}

Status LocalEndpoint::copy_pair(const Call& call, const RunPair& pair) {
  LocalRegion& region = *remote_.find(pair.remote_region)->second;
  if (!region.users.enter()) {
    return unavailable(
        fmt::format("peer {:x} has deregistered its region {}", peer(), pair.remote_region));
  }
  std::byte* local = transport_.regions_.resolve(pair.local_region, pair.local_offset, pair.bytes);
  std::byte* remote = region.region.base + pair.remote_offset;
  if (call.operation == Operation::kWrite) {
    std::memcpy(remote, local, pair.bytes);
  } else {
    std::memcpy(local, remote, pair.bytes);
  }
  region.users.leave();
  return {};
}

Status LocalEndpoint::notify(Slot slot, uint64_t cookie) {
  MEMPOOL_RETURN_IF_ERROR(check_open());
  door_->target->deliver([door = door_, slot](LocalPort& port) {
    const uint64_t source = door->source->incarnation();
    if (!door->calls.closed()) port.events().notified(source, slot);
  });
  ++counts_.network_calls;
  ++*in_flight_;
  transport_.port_->events().completed(cookie, {}, in_flight_);
  return {};
}

void LocalEndpoint::close() {
  if (std::exchange(closed_, true) || door_->calls.closed()) return;
  const uint64_t source = door_->source->incarnation();
  door_->target->deliver([source](LocalPort& port) {
    port.events().lost(source, Direction::kInbound,
                       unavailable(fmt::format("local peer {:x} closed the connection", source)));
  });
}

}  // namespace mempool
