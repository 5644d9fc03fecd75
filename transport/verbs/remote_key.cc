// SPDX-License-Identifier: Apache-2.0
// Owns the reading and writing of keys.
#include "transport/verbs/remote_key.h"

#include <fmt/format.h>

#include "core/check.h"
#include "transport/little_endian.h"
#include "transport/region_table.h"

namespace mempool {
namespace {

constexpr size_t kFixedKeyBytes = 29;

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
  MEMPOOL_RETURN_IF_ERROR(check_key_names(owner, id, incarnation, region));
  if (key.address > UINT64_MAX - key.bytes) return malformed();
  for (uint8_t i = 0; i < count; ++i) key.keys.push_back(reader.get<uint32_t>());
  return key;
}

}  // namespace mempool
