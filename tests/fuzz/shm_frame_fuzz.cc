// SPDX-License-Identifier: Apache-2.0
// Owns the fuzz target of shm's frames: any bytes are refused, or say themselves again.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/check.h"
#include "transport/shm/shm_frame.h"

namespace {

using namespace mempool;

void check_memory(std::span<const std::byte> body) {
  const auto memory = decode_shm_memory(body);
  if (!memory.ok()) return;
  std::array<std::byte, kShmMemoryBytes> again;
  encode_shm_memory(*memory, again.data());
  MEMPOOL_CHECK(std::ranges::equal(again, body));
}

void check_list(std::span<const std::byte> body) {
  std::vector<RunPair> pairs;
  if (!decode_shm_pairs(body, pairs).ok()) return;
  MEMPOOL_CHECK(!pairs.empty() && pairs.size() <= kShmPairsMax);
  std::vector<std::byte> again(pairs.size() * kShmPairBytes);
  uint64_t bytes = 0;
  for (size_t i = 0; i < pairs.size(); ++i) {
    encode_shm_pair(pairs[i], again.data() + i * kShmPairBytes);
    bytes += pairs[i].bytes;
  }
  MEMPOOL_CHECK(bytes <= kShmCallBytesMax);
  MEMPOOL_CHECK(std::ranges::equal(again, body));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  if (input.size() < kShmHeaderBytes) return 0;
  const auto header = decode_shm_header(input.first<kShmHeaderBytes>());
  if (!header.ok()) return 0;
  std::array<std::byte, kShmHeaderBytes> again;
  encode_shm_header(*header, again.data());
  MEMPOOL_CHECK(std::ranges::equal(again, input.first<kShmHeaderBytes>()));
  if (input.size() < kShmHeaderBytes + header->body_bytes) return 0;
  const auto body = input.subspan(kShmHeaderBytes, header->body_bytes);
  if (header->type == ShmFrameType::kHello) (void)decode_shm_hello(body);
  if (header->type == ShmFrameType::kAnswer) (void)decode_shm_answer(body);
  if (header->type == ShmFrameType::kMemory) check_memory(body);
  if (header->type == ShmFrameType::kList) check_list(body);
  return 0;
}
