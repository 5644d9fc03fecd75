// SPDX-License-Identifier: Apache-2.0
// Owns the threads that register.
#include "transport/verbs/verbs_memory.h"

#include <fmt/format.h>

#include <chrono>
#include <future>
#include <system_error>

#include "core/check.h"
#include "core/log.h"

namespace mempool {
namespace {

// Registration is silent for this long; then it says how far it is.
constexpr std::chrono::seconds kProgressPause{2};

}  // namespace

Status VerbsMemory::add(const Region& region, uint8_t memory_kinds) {
  MEMPOOL_RETURN_IF_ERROR(check_region(region, memory_kinds));
  if (regions_.contains(region.id)) {
    return {StatusCode::kAlreadyExists, fmt::format("region {} is registered already", region.id)};
  }
  std::vector<MemoryHandle> memories;
  MEMPOOL_RETURN_IF_ERROR(register_everywhere(region, memories));
  regions_.emplace(region.id, RegisteredRegion{region, std::move(memories)});
  return {};
}

Status VerbsMemory::register_everywhere(const Region& region,
                                        std::vector<MemoryHandle>& memories) const {
  using Registered = Result<MemoryHandle>;
  const int dmabuf = region.kind == MemoryKind::kDevice ? region.descriptor : -1;
  std::vector<std::future<Registered>> work;
  for (const auto& device : devices_) {
    const auto begin = [&region, dmabuf, one = device.get()] {
      return one->register_memory(region.base, region.bytes, dmabuf);
    };
    try {
      work.push_back(std::async(std::launch::async, begin));
    } catch (const std::system_error&) {  // no thread to be had: in this one, when it is asked for
      work.push_back(std::async(std::launch::deferred, begin));
    }
  }
  const auto begun = std::chrono::steady_clock::now();
  Status status;
  for (std::future<Registered>& one : work) {
    while (one.wait_for(kProgressPause) == std::future_status::timeout) {
      const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begun;
      log().info("verbs: registering region {} of {} MiB: {} of {} devices after {:.0f} s",
                 region.id, region.bytes >> 20, memories.size(), devices_.size(), passed.count());
    }
    Registered registered = one.get();
    if (registered.ok()) {
      memories.push_back(std::move(registered).value());
    } else if (status.ok()) {
      status = registered.status();
    }
  }
  return status;
}

Status VerbsMemory::remove(uint32_t id) {
  const auto found = regions_.find(id);
  if (found == regions_.end()) return not_found(fmt::format("region {} is not registered", id));
  if (found->second.uses > 0) {
    return resource_exhausted(fmt::format("region {} is in use by a transfer under way", id));
  }
  regions_.erase(found);
  return {};
}

RegisteredRegion* VerbsMemory::resolve(uint32_t id, uint64_t offset, uint64_t bytes) {
  const auto found = regions_.find(id);
  if (found == regions_.end() || !lies_inside(found->second.region.bytes, offset, bytes)) {
    return nullptr;
  }
  return &found->second;
}

Result<std::vector<std::byte>> VerbsMemory::key(uint32_t id, uint64_t incarnation) const {
  const auto found = regions_.find(id);
  if (found == regions_.end()) return not_found(fmt::format("region {} is not registered", id));
  const RegisteredRegion& registered = found->second;
  RemoteRegion key;
  key.bytes = registered.region.bytes;
  key.address = reinterpret_cast<uint64_t>(registered.region.base);
  for (const MemoryHandle& memory : registered.memories) key.keys.push_back(memory->rkey);
  return encode_remote_key(incarnation, id, key);
}

}  // namespace mempool
