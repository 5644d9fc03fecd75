// SPDX-License-Identifier: Apache-2.0
// Owns the encoding and checking of keys and worker addresses.
#include "transport/ucx/ucx_wire.h"

#include <fmt/format.h>
#include <xxhash.h>

#include "core/check.h"
#include "transport/little_endian.h"

namespace mempool {
namespace {

constexpr size_t kSumBytes = sizeof(uint64_t);
constexpr size_t kKeyHeadBytes = 3 * sizeof(uint64_t) + sizeof(uint32_t);

std::vector<std::byte> sealed(std::span<const std::byte> body) {
  std::vector<std::byte> bytes(kSumBytes + body.size());
  LittleEndianWriter(bytes.data()).put(XXH3_64bits(body.data(), body.size())).put(body);
  return bytes;
}

Result<std::span<const std::byte>> opened(std::span<const std::byte> bytes, size_t least) {
  if (bytes.size() >= kSumBytes + least) {
    const std::span<const std::byte> body = bytes.subspan(kSumBytes);
    const auto sum = LittleEndianReader(bytes.data()).get<uint64_t>();
    if (sum == XXH3_64bits(body.data(), body.size())) return body;
  }
  return invalid_argument(fmt::format("{} bytes that are not as they were given", bytes.size()));
}

}  // namespace

Result<std::vector<std::byte>> encode_ucx_key(const UcxKey& key) {
  std::vector<std::byte> body(kKeyHeadBytes + key.key.size());
  LittleEndianWriter(body.data())
      .put(key.incarnation)
      .put(key.region)
      .put(key.bytes)
      .put(key.base)
      .put(std::span<const std::byte>(key.key));
  std::vector<std::byte> bytes = sealed(body);
  if (bytes.size() <= kUcxKeyBytesMax) return bytes;
  return unsupported(
      fmt::format("the key of region {} has {} bytes, of {}: UCX packs one for each device, name "
                  "fewer in ucx.devices",
                  key.region, bytes.size(), kUcxKeyBytesMax));
}

Result<UcxKey> decode_ucx_key(std::span<const std::byte> bytes, uint64_t incarnation,
                              uint32_t region) {
  const Result<std::span<const std::byte>> body = opened(bytes, kKeyHeadBytes + 1);
  if (!body.ok()) return body.status().with_context(fmt::format("key of region {}", region));
  LittleEndianReader reader(body->data());
  UcxKey key;
  key.incarnation = reader.get<uint64_t>();
  key.region = reader.get<uint32_t>();
  key.bytes = reader.get<uint64_t>();
  key.base = reader.get<uint64_t>();
  if (key.incarnation != incarnation) {
    return stale(
        fmt::format("key of region {} is of incarnation {:x}, the peer is {:x}; ask it anew",
                    region, key.incarnation, incarnation));
  }
  if (key.region != region) {
    return invalid_argument(fmt::format("key is of region {}, not {}", key.region, region));
  }
  const std::span<const std::byte> packed = body->subspan(kKeyHeadBytes);
  key.key.assign(packed.begin(), packed.end());
  return key;
}

std::vector<std::byte> encode_worker_address(std::span<const std::byte> address) {
  return sealed(address);
}

Result<std::vector<std::byte>> decode_worker_address(std::span<const std::byte> note) {
  const Result<std::span<const std::byte>> body = opened(note, 1);
  if (!body.ok()) return body.status().with_context("worker address");
  return std::vector(body->begin(), body->end());
}

}  // namespace mempool
