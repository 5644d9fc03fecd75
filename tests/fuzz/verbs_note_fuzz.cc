// SPDX-License-Identifier: Apache-2.0
// Owns the fuzz target of what verbs peers send while they set up: any bytes are refused, or say
// themselves again.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/check.h"
#include "transport/verbs/remote_key.h"
#include "transport/verbs/setup_note.h"

namespace {

using namespace mempool;

void check_note(std::span<const std::byte> input) {
  const auto note = decode_note(input);
  // The words of a refusal are read with others in front of them.
  if (!note.ok() || std::holds_alternative<RefusedNote>(*note)) return;
  MEMPOOL_CHECK(std::ranges::equal(encode_note(*note), input));
}

void check_key(std::span<const std::byte> input) {
  constexpr uint64_t kIncarnation = 1;
  constexpr uint32_t kRegion = 0;
  const auto key = decode_remote_key(input, kIncarnation, kRegion);
  if (!key.ok()) return;
  MEMPOOL_CHECK(std::ranges::equal(encode_remote_key(kIncarnation, kRegion, *key), input));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  check_note(input);
  check_key(input);
  return 0;
}
