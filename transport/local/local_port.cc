// SPDX-License-Identifier: Apache-2.0
// Owns the process-wide table of local ports, and the set-up and tear-down of their doors. Locks
// are taken here only, never by a call that moves bytes.
#include "transport/local/local_port.h"

#include <fmt/format.h>

namespace mempool {
namespace {

struct PortTable {
  std::mutex mutex;
  std::unordered_map<uint64_t, std::shared_ptr<LocalPort>> ports;
};

PortTable& port_table() {
  static PortTable table;
  return table;
}

}  // namespace

void LocalDoor::drained() const {
  target->deliver([peer = source->incarnation()](LocalPort& port) { port.events().fenced(peer); });
}

Status LocalPort::list(const std::shared_ptr<LocalPort>& port) {
  PortTable& table = port_table();
  const std::lock_guard lock(table.mutex);
  if (table.ports.emplace(port->incarnation(), port).second) return {};
  return {StatusCode::kAlreadyExists,
          fmt::format("incarnation {:x} has a local transport in this process already",
                      port->incarnation())};
}

std::shared_ptr<LocalPort> LocalPort::find(uint64_t incarnation) {
  PortTable& table = port_table();
  const std::lock_guard lock(table.mutex);
  const auto found = table.ports.find(incarnation);
  return found == table.ports.end() ? nullptr : found->second;
}

void LocalPort::add_region(const Region& region) {
  auto shared = std::make_shared<LocalRegion>();
  shared->region = region;
  const std::lock_guard lock(mutex_);
  regions_.emplace(region.id, std::move(shared));
}

void LocalPort::remove_region(uint32_t id) {
  std::shared_ptr<LocalRegion> region;
  {
    const std::lock_guard lock(mutex_);
    const auto found = regions_.find(id);
    if (found == regions_.end()) return;
    region = std::move(found->second);
    regions_.erase(found);
  }
  region->users.close_and_wait();
}

std::shared_ptr<LocalRegion> LocalPort::region(uint32_t id) const {
  const std::lock_guard lock(mutex_);
  const auto found = regions_.find(id);
  return found == regions_.end() ? nullptr : found->second;
}

std::shared_ptr<LocalDoor> LocalPort::door(const std::shared_ptr<LocalPort>& source) {
  const std::lock_guard lock(mutex_);
  std::shared_ptr<LocalDoor>& door = doors_[source->incarnation()];
  if (!door) {
    door = std::make_shared<LocalDoor>();
    door->target = shared_from_this();
    door->source = source;
    if (deliveries_.closed()) door->calls.close();  // found in the table just before it went
  }
  return door;
}

std::shared_ptr<LocalDoor> LocalPort::take_door(uint64_t peer) {
  const std::lock_guard lock(mutex_);
  const auto found = doors_.find(peer);
  if (found == doors_.end()) return nullptr;
  std::shared_ptr<LocalDoor> door = std::move(found->second);
  doors_.erase(found);
  return door;
}

void LocalPort::close() {
  {
    PortTable& table = port_table();
    const std::lock_guard lock(table.mutex);
    table.ports.erase(incarnation_);
  }
  deliveries_.close_and_wait();
  std::unordered_map<uint64_t, std::shared_ptr<LocalDoor>> doors;
  {
    const std::lock_guard lock(mutex_);
    doors.swap(doors_);
    regions_.clear();
  }
  for (const auto& [peer, door] : doors) {
    door->calls.close_and_wait();
    door->source->deliver([gone = incarnation_](LocalPort& port) {
      port.events().lost(gone, Direction::kOutbound,
                         unavailable(fmt::format("local peer {:x} has gone", gone)));
    });
  }
}

}  // namespace mempool
