// SPDX-License-Identifier: Apache-2.0
// Owns the checks of the region table and the bytes of a region's key.
#include "transport/region_table.h"

#include <fmt/format.h>

#include "core/check.h"
#include "transport/little_endian.h"

namespace mempool {
namespace {

constexpr size_t kRegionKeyBytes = 20;

}  // namespace

std::vector<std::byte> encode_region_key(const RegionKey& key) {
  std::vector<std::byte> bytes(kRegionKeyBytes);
  LittleEndianWriter(bytes.data()).put(key.incarnation).put(key.region).put(key.bytes);
  return bytes;
}

Result<RegionKey> decode_region_key(std::span<const std::byte> bytes, uint64_t incarnation,
                                    uint32_t region) {
  if (bytes.size() != kRegionKeyBytes) {
    return invalid_argument(
        fmt::format("key of region {}: {} bytes, give the {} that were exported", region,
                    bytes.size(), kRegionKeyBytes));
  }
  LittleEndianReader reader(bytes.data());
  RegionKey key;
  key.incarnation = reader.get<uint64_t>();
  key.region = reader.get<uint32_t>();
  key.bytes = reader.get<uint64_t>();
  MEMPOOL_RETURN_IF_ERROR(check_key_names(key.incarnation, key.region, incarnation, region));
  return key;
}

Status check_key_names(uint64_t key_incarnation, uint32_t key_region, uint64_t incarnation,
                       uint32_t region) {
  if (key_incarnation != incarnation) {
    return stale(
        fmt::format("key of region {} is of incarnation {:x}, the peer is {:x}; ask it anew",
                    region, key_incarnation, incarnation));
  }
  if (key_region == region) return {};
  return invalid_argument(fmt::format("key is of region {}, not {}", key_region, region));
}

Status check_region(const Region& region, uint8_t memory_kinds) {
  if (region.base == nullptr || region.bytes == 0) {
    return invalid_argument(fmt::format("region {} is empty", region.id));
  }
  if ((memory_kinds & static_cast<uint8_t>(region.kind)) == 0) {
    return unsupported(
        fmt::format("region {} is of a memory kind that this transport cannot reach", region.id));
  }
  return {};
}

Status RegionTable::add(const Region& region, uint8_t memory_kinds) {
  MEMPOOL_RETURN_IF_ERROR(check_region(region, memory_kinds));
  if (!regions_.emplace(region.id, region).second) {
    return {StatusCode::kAlreadyExists, fmt::format("region {} is registered already", region.id)};
  }
  return {};
}

Status RegionTable::remove(uint32_t id) {
  if (regions_.erase(id) == 0) return not_found(fmt::format("region {} is not registered", id));
  return {};
}

const Region* RegionTable::find(uint32_t id) const {
  const auto found = regions_.find(id);
  return found == regions_.end() ? nullptr : &found->second;
}

std::byte* RegionTable::resolve(uint32_t id, uint64_t offset, uint64_t bytes) const {
  const Region* region = find(id);
  if (region == nullptr || !lies_inside(region->bytes, offset, bytes)) return nullptr;
  return region->base + offset;
}

}  // namespace mempool
