// SPDX-License-Identifier: Apache-2.0
// Owns the fuzz target of tcp's opening messages and of a region's key: any bytes are refused, or
// say themselves again.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/check.h"
#include "transport/region_table.h"
#include "transport/hello.h"

namespace {

using namespace mempool;

template <size_t kBytes, typename Decode, typename Encode>
void check_message(std::span<const std::byte> input, Decode decode, Encode encode) {
  if (input.size() < kBytes) return;
  const auto message = decode(input.first<kBytes>());
  if (!message.ok()) return;
  const auto once = encode(*message);
  const auto again = decode(std::span<const std::byte, kBytes>(once));
  MEMPOOL_CHECK(again.ok());
  MEMPOOL_CHECK(std::ranges::equal(encode(*again), once));
}

void check_key(std::span<const std::byte> input) {
  constexpr uint64_t kIncarnation = 1;
  constexpr uint32_t kRegion = 0;
  const auto key = decode_region_key(input, kIncarnation, kRegion);
  if (key.ok()) MEMPOOL_CHECK(std::ranges::equal(encode_region_key(*key), input));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  check_message<kHelloBytes>(input, decode_hello, encode_hello);
  check_message<kAnswerBytes>(input, decode_answer, encode_answer);
  check_message<kWelcomeBytes>(input, decode_welcome, encode_welcome);
  check_key(input);
  return 0;
}
