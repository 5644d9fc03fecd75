// SPDX-License-Identifier: Apache-2.0
// Owns the threads that register, and the bytes of a key.
#include "transport/verbs/verbs_memory.h"

#include <fmt/format.h>

#include <chrono>
#include <future>

#include "core/check.h"
#include "core/log.h"
#include "transport/little_endian.h"

namespace mempool {
namespace {

constexpr size_t kFixedKeyBytes = 29;
// Registration is silent for this long; then it says how far it is.
constexpr std::chrono::seconds kProgressPause{2};

}  // namespace

std::vector<std::byte> encode_remote_key(uint64_t incarnation, uint32_t region,
                                         const RemoteRegion& key) {
  std::vector<std::byte> bytes(kFixedKeyBytes + key.keys.size() * sizeof(uint32_t));
  LittleEndianWriter writer(bytes.data());
  writer.put(incarnation).put(region).put(key.bytes).put(key.address);
  writer.put(static_cast<uint8_t>(key.keys.size()));
  for (const uint32_t one : key.keys) writer.put(one);
  return bytes;
}

Result<RemoteRegion> decode_remote_key(std::span<const std::byte> bytes, uint64_t incarnation,
                                       uint32_t region) {
  const auto malformed = [&] {
    return invalid_argument(fmt::format("key of region {}: {} bytes are none that verbs exports",
                                        region, bytes.size()));
  };
  if (bytes.size() < kFixedKeyBytes) return malformed();
  LittleEndianReader reader(bytes.data());
  const auto owner = reader.get<uint64_t>();
  const auto id = reader.get<uint32_t>();
  RemoteRegion key;
  key.bytes = reader.get<uint64_t>();
  key.address = reader.get<uint64_t>();
  const auto count = reader.get<uint8_t>();
  if (bytes.size() != kFixedKeyBytes + count * sizeof(uint32_t)) return malformed();
  if (owner != incarnation) {
    return stale(
        fmt::format("key of region {} is of incarnation {:x}, the peer is {:x}; ask it "
                    "anew",
                    region, owner, incarnation));
  }
  if (id != region) return invalid_argument(fmt::format("key is of region {}, not {}", id, region));
  if (key.address > UINT64_MAX - key.bytes) return malformed();
  for (uint8_t i = 0; i < count; ++i) key.keys.push_back(reader.get<uint32_t>());
  return key;
}

Status VerbsMemory::add(const Region& region, uint8_t memory_kinds) {
  RegionTable rules;  // what holds for every backend's regions
  MEMPOOL_RETURN_IF_ERROR(rules.add(region, memory_kinds));
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
    work.push_back(std::async(std::launch::async, [&region, dmabuf, one = device.get()] {
      return one->register_memory(region.base, region.bytes, dmabuf);
    }));
  }
  const auto begun = std::chrono::steady_clock::now();
  Status status;
  for (std::future<Registered>& one : work) {
    while (one.wait_for(kProgressPause) != std::future_status::ready) {
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
