// SPDX-License-Identifier: Apache-2.0
// Owns the fuzz target of tcp's frames: any stream, cut into reads anyhow, breaks off with an error
// or puts each payload where it belongs, byte for byte. The first two bytes of an input say how
// much a read gives, and which of eight frames are discarded.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "core/check.h"
#include "transport/tcp/frame_reader.h"

namespace {

using namespace mempool;

/// Gives each payload memory of its own and compares what landed with the stream.
class Target : public FrameHandler {
 public:
  Target(std::span<const std::byte> stream, uint8_t discarded)
      : stream_(stream), discarded_(discarded) {}

  Result<Landing> on_head(const FrameHeader& header, std::span<const FrameRange> ranges,
                          std::vector<iovec>& places) override {
    MEMPOOL_CHECK(places.empty() && ranges.size() == header.ranges);
    std::array<std::byte, kFrameHeaderBytes> again{};
    encode_frame_header(header, again.data());
    MEMPOOL_CHECK(std::ranges::equal(again, stream_.subspan(position_, again.size())));
    position_ += kFrameHeaderBytes + ranges.size() * kFrameRangeBytes;
    if ((discarded_ >> (frames_++ % 8)) & 1) return Landing::kDiscard;
    memory_.assign(header.payload_bytes(), std::byte{0});
    const size_t half = memory_.size() / 2;
    if (half > 0) places.push_back({memory_.data(), half});
    if (!memory_.empty()) places.push_back({memory_.data() + half, memory_.size() - half});
    return Landing::kPlace;
  }

  Status on_frame(const FrameHeader& header, Landing landing) override {
    const auto sent = stream_.subspan(position_, header.payload_bytes());
    if (landing == Landing::kPlace) MEMPOOL_CHECK(std::ranges::equal(memory_, sent));
    position_ += sent.size();
    return Status();
  }

 private:
  std::span<const std::byte> stream_;
  const uint8_t discarded_;
  size_t frames_ = 0;
  size_t position_ = 0;
  std::vector<std::byte> memory_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t read_most = size_t{1} + data[0] * size_t{8};
  const auto stream = std::as_bytes(std::span(data + 2, size - 2));
  Target target(stream, data[1]);
  FrameReader reader(target);
  std::vector<iovec> places(FrameReader::kPlacesMax);
  for (auto rest = stream; !rest.empty();) {
    const size_t used = reader.prepare(places);
    MEMPOOL_CHECK(used > 0);
    size_t read = 0;
    for (size_t i = 0; i < used; ++i) {
      const size_t bytes = std::min({places[i].iov_len, rest.size() - read, read_most - read});
      std::memcpy(places[i].iov_base, rest.data() + read, bytes);
      read += bytes;
    }
    MEMPOOL_CHECK(read > 0);
    if (!reader.advance(read).ok()) return 0;
    rest = rest.subspan(read);
  }
  return 0;
}
