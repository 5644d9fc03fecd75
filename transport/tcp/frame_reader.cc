// SPDX-License-Identifier: Apache-2.0
// Owns the cutting of a byte stream into frames.
#include "transport/tcp/frame_reader.h"

#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "transport/region_table.h"

namespace mempool {
namespace {

// Holds the largest header with its ranges, and bounds the payload that is copied.
constexpr size_t kBufferBytes = size_t{32} << 10;
static_assert(kBufferBytes >= kFrameHeaderBytes + kFrameRangesMax * kFrameRangeBytes);

}  // namespace

FrameReader::FrameReader(FrameHandler& handler) : handler_(handler), buffer_(kBufferBytes) {}

size_t FrameReader::prepare(std::span<iovec> out) {
  MEMPOOL_CHECK(out.size() >= kPlacesMax);
  size_t used = 0;
  if (in_payload_ && landing_ == Landing::kPlace) {
    used = places_.size() - next_place_;
    std::copy_n(places_.begin() + static_cast<ptrdiff_t>(next_place_), used, out.begin());
  }
  out[used++] = {buffer_.data() + end_, buffer_.size() - end_};
  return used;
}

Status FrameReader::advance(size_t bytes) {
  if (in_payload_ && landing_ == Landing::kPlace) {
    const size_t placed = std::min(bytes, left_);
    skip_places(nullptr, placed);
    left_ -= placed;
    bytes -= placed;
  }
  end_ += bytes;
  MEMPOOL_CHECK(end_ <= buffer_.size());
  Status status;
  do {
    if (in_payload_) MEMPOOL_RETURN_IF_ERROR(take_payload());
  } while (!in_payload_ && begin_frame(status));
  make_room();
  return status;
}

// Give the frame under way what the buffer holds of its payload, and end it if that is all.
Status FrameReader::take_payload() {
  const size_t here = std::min(left_, end_ - begin_);
  if (landing_ == Landing::kPlace) skip_places(buffer_.data() + begin_, here);
  begin_ += here;
  left_ -= here;
  if (left_ > 0) return {};
  in_payload_ = false;
  return handler_.on_frame(header_, landing_);
}

// Begin the next frame if the buffer holds all of its header and ranges.
bool FrameReader::begin_frame(Status& status) {
  const std::span<const std::byte> waiting(buffer_.data() + begin_, end_ - begin_);
  if (waiting.size() < kFrameHeaderBytes) return false;
  const Result<FrameHeader> header = decode_frame_header(waiting.first<kFrameHeaderBytes>());
  if (!header.ok()) return status = header.status(), false;
  const size_t ranges_bytes = header->ranges * kFrameRangeBytes;
  if (waiting.size() - kFrameHeaderBytes < ranges_bytes) return false;
  status = decode_frame_ranges(*header, waiting.subspan(kFrameHeaderBytes, ranges_bytes), ranges_);
  if (!status.ok()) return false;

  places_.clear();
  next_place_ = 0;
  const Result<Landing> landing = handler_.on_head(*header, ranges_, places_);
  if (!landing.ok()) return status = landing.status(), false;
  MEMPOOL_CHECK(places_.size() <= kFrameRangesMax);
  header_ = *header;
  landing_ = *landing;
  left_ = header_.payload_bytes();
  begin_ += kFrameHeaderBytes + ranges_bytes;
  in_payload_ = true;
  return true;
}

// Use up places for `bytes` bytes, copying them from `from` unless they are there already.
void FrameReader::skip_places(const std::byte* from, size_t bytes) {
  while (bytes > 0) {
    MEMPOOL_CHECK(next_place_ < places_.size());
    iovec& place = places_[next_place_];
    const size_t here = std::min(bytes, place.iov_len);
    if (from != nullptr) {
      std::memcpy(place.iov_base, from, here);
      from += here;
    }
    place.iov_base = static_cast<std::byte*>(place.iov_base) + here;
    place.iov_len -= here;
    bytes -= here;
    if (place.iov_len == 0) ++next_place_;
  }
}

// Move an unfinished header to the front, so that the buffer's free part can take the rest of it.
void FrameReader::make_room() {
  if (begin_ == 0) return;
  std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
}

void FrameReader::discard(Slot slot) {
  if (in_payload_ && header_.slot == slot) landing_ = Landing::kDiscard;
}

bool FrameReader::lands_in(const std::byte* base, uint64_t bytes) const {
  if (!in_payload_ || landing_ == Landing::kDiscard) return false;
  return std::any_of(
      places_.begin() + static_cast<ptrdiff_t>(next_place_), places_.end(),
      [&](const iovec& place) { return overlap(place.iov_base, place.iov_len, base, bytes); });
}

}  // namespace mempool
