// SPDX-License-Identifier: Apache-2.0
// Owns the fuzz target of what ucx peers send outside of UCX: any bytes are refused, or come with
// zeros behind them; and of a sealed key UCX would read no more than there is.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "core/check.h"
#include "transport/ucx/ucx_wire.h"

namespace {

using namespace mempool;

constexpr uint64_t kIncarnation = 1;
constexpr uint32_t kRegion = 0;

// Read a packed key by its map of domains, as UCX does.
void walk(std::span<const std::byte> packed) {
  uint64_t domains = 0;
  std::memcpy(&domains, packed.data(), sizeof domains);
  size_t at = sizeof domains + 1;
  for (; domains != 0; domains &= domains - 1) {
    MEMPOOL_CHECK(at + kUcxSlackBytes < packed.size());
    at += 1 + std::to_integer<size_t>(packed[at]);
  }
  MEMPOOL_CHECK(at + kUcxSlackBytes <= packed.size());
}

void check_key(std::span<const std::byte> input) {
  (void)decode_ucx_key(input, kIncarnation, kRegion);
  const UcxKey key{kIncarnation, kRegion, 1, 1, {input.begin(), input.end()}};
  const auto sealed = encode_ucx_key(key);
  if (!sealed.ok()) return;
  const auto decoded = decode_ucx_key(*sealed, kIncarnation, kRegion);
  if (!decoded.ok()) return;
  MEMPOOL_CHECK(std::equal(input.begin(), input.end(), decoded->key.begin()));
  walk(decoded->key);
}

void check_note(std::span<const std::byte> input) {
  (void)decode_worker_note(input);
  if (input.empty()) return;
  const auto address = decode_worker_note(encode_worker_address(input));
  MEMPOOL_CHECK(address.ok() && address->size() == input.size() + kUcxSlackBytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  check_key(input);
  check_note(input);
  return 0;
}
