// SPDX-License-Identifier: Apache-2.0
// Owns the fuzz target of attached engines: any bytes give an error, or a frame that can be said
// again in bytes of the same meaning.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "agent/attach_frame.h"
#include "core/check.h"

namespace {

std::vector<std::byte> body_of(const mempool::AttachFrame& frame) {
  const std::vector<std::byte> bytes = mempool::encode_attach(frame);
  return {bytes.begin() + 4, bytes.end()};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  const mempool::Result<mempool::AttachFrame> frame =
      mempool::decode_attach(std::vector<std::byte>(input.begin(), input.end()));
  if (!frame.ok()) return 0;
  const std::vector<std::byte> once = body_of(*frame);
  const mempool::Result<mempool::AttachFrame> again = mempool::decode_attach(once);
  MEMPOOL_CHECK(again.ok());
  MEMPOOL_CHECK(body_of(*again) == once);
  return 0;
}
