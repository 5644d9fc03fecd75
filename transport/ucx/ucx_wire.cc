// SPDX-License-Identifier: Apache-2.0
// Owns the encoding and checking of keys and worker addresses.
#include "transport/ucx/ucx_wire.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "core/check.h"
#include "core/readable.h"
#include "transport/little_endian.h"
#include "transport/region_table.h"

namespace mempool {
namespace {

constexpr size_t kSumBytes = sizeof(uint64_t);
constexpr size_t kKeyHeadBytes = 3 * sizeof(uint64_t) + sizeof(uint32_t);
constexpr size_t kReasonBytesMax = 512;

enum class Note : uint8_t { kAddress = 1, kRefusal = 2 };

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

// What UCX packs, in 1.13 and until today: a map of the peer's memory domains, the kind of memory,
// and for each domain of the map a length and as many bytes. It reads them by the map alone. A
// newer UCX may put more behind them.
bool is_packed_key(std::span<const std::byte> packed) {
  uint64_t domains = 0;
  constexpr size_t kHead = sizeof domains + 1;
  if (packed.size() < kHead) return false;
  std::memcpy(&domains, packed.data(), sizeof domains);
  if (packed[sizeof domains] != std::byte{0}) return false;  // UCS_MEMORY_TYPE_HOST
  size_t at = kHead;
  for (int left = std::popcount(domains); left > 0; --left) {
    if (at >= packed.size()) return false;
    at += 1 + std::to_integer<size_t>(packed[at]);
  }
  return at <= packed.size();
}

std::vector<std::byte> with_slack(std::span<const std::byte> bytes) {
  std::vector<std::byte> copy(bytes.size() + kUcxSlackBytes);
  std::ranges::copy(bytes, copy.begin());
  return copy;
}

std::vector<std::byte> sealed_note(Note kind, std::span<const std::byte> content) {
  std::vector<std::byte> body(1 + content.size(), static_cast<std::byte>(kind));
  std::ranges::copy(content, body.begin() + 1);
  return sealed(body);
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
  MEMPOOL_RETURN_IF_ERROR(check_key_names(key.incarnation, key.region, incarnation, region));
  const std::span<const std::byte> packed = body->subspan(kKeyHeadBytes);
  if (!is_packed_key(packed)) {
    return invalid_argument(
        fmt::format("key of region {}: no key of host memory that UCX would "
                    "pack; do both ends have one version of UCX?",
                    region));
  }
  key.key = with_slack(packed);
  return key;
}

std::vector<std::byte> encode_worker_address(std::span<const std::byte> address) {
  return sealed_note(Note::kAddress, address);
}

std::vector<std::byte> encode_worker_refusal(const Status& why) {
  const std::string_view words = why.message().substr(0, kReasonBytesMax);
  return sealed_note(Note::kRefusal, std::as_bytes(std::span(words)));
}

Result<std::vector<std::byte>> decode_worker_note(std::span<const std::byte> note) {
  const Result<std::span<const std::byte>> body = opened(note, 2);
  if (!body.ok()) return body.status().with_context("worker address");
  const std::span<const std::byte> content = body->subspan(1);
  switch (static_cast<Note>(body->front())) {
    case Note::kAddress:
      return with_slack(content);
    case Note::kRefusal: {
      const std::string_view words(reinterpret_cast<const char*>(content.data()), content.size());
      return unavailable("the peer refuses: " + readable(words, kReasonBytesMax));
    }
  }
  return invalid_argument("worker address: a note of an unknown kind");
}

}  // namespace mempool
