// SPDX-License-Identifier: Apache-2.0
// Owns the gathering of queued frames into lists that one sendmsg takes.
#include "transport/tcp/frame_queue.h"

#include <algorithm>
#include <array>

#include "core/check.h"
#include "transport/region_table.h"

namespace mempool {
namespace {

// What a stopped frame's payload is made up of.
std::array<std::byte, size_t{64} << 10> zero_page{};

// Take up to `bytes` off the front of a piece.
size_t consume(iovec& piece, size_t bytes) {
  const size_t here = std::min(bytes, piece.iov_len);
  piece.iov_base = static_cast<std::byte*>(piece.iov_base) + here;
  piece.iov_len -= here;
  return here;
}

}  // namespace

void OutgoingFrame::start(const FrameHeader& header) {
  header_ = header;
  header_.ranges = 0;
  last_range_ = {};
  head_.resize(kFrameHeaderBytes);
  pieces_.clear();
  bytes_ = 0;
  head_sent_ = 0;
  next_piece_ = 0;
  zeros_ = 0;
}

void OutgoingFrame::add_range(uint32_t region, uint64_t offset, uint64_t bytes) {
  bytes_ += bytes;
  const auto added = static_cast<uint32_t>(bytes);
  if (header_.ranges > 0 && last_range_.region == region &&
      last_range_.offset + last_range_.bytes == offset) {
    last_range_.bytes += added;
  } else {
    last_range_ = {region, offset, added};
    ++header_.ranges;
    head_.resize(head_.size() + kFrameRangeBytes);
  }
  encode_frame_range(last_range_, head_.data() + head_.size() - kFrameRangeBytes);
}

void OutgoingFrame::add_piece(const std::byte* bytes, uint64_t count) {
  if (header_.type == FrameType::kReadReply) bytes_ += count;
  if (!pieces_.empty()) {
    iovec& last = pieces_.back();
    if (static_cast<const std::byte*>(last.iov_base) + last.iov_len == bytes) {
      last.iov_len += count;
      return;
    }
  }
  pieces_.push_back({const_cast<std::byte*>(bytes), count});  // only ever read from
}

void OutgoingFrame::encode() {
  header_.bytes = static_cast<uint32_t>(bytes_);
  encode_frame_header(header_, head_.data());
}

bool OutgoingFrame::is_sent() const {
  return head_sent_ == head_.size() && next_piece_ == pieces_.size() && zeros_ == 0;
}

FrameQueue::FrameQueue(size_t capacity, FrameQueueListener& listener)
    : listener_(listener), frames_(capacity) {
  order_.reserve(capacity);
  for (size_t i = 0; i < capacity; ++i) spare_.push_back(static_cast<uint16_t>(i));
}

OutgoingFrame* FrameQueue::draft() {
  return spare_.empty() ? nullptr : &frames_[spare_.back()];
}

void FrameQueue::push() {
  frames_[spare_.back()].encode();
  order_.push_back(spare_.back());
  spare_.pop_back();
}

size_t FrameQueue::gather(std::span<iovec> out, size_t bytes_max) {
  size_t used = 0;
  size_t bytes = 0;
  const auto add = [&](const void* from, size_t count) {
    out[used++] = {const_cast<void*>(from), count};
    bytes += count;
  };
  const auto room = [&] { return used < out.size() && bytes < bytes_max; };
  for (const uint16_t index : order_) {
    if (!room()) break;
    const OutgoingFrame& frame = frames_[index];
    if (frame.head_sent_ < frame.head_.size()) {
      add(frame.head_.data() + frame.head_sent_, frame.head_.size() - frame.head_sent_);
    }
    uint64_t zeros = frame.zeros_;
    while (zeros > 0 && room()) {
      const size_t here = std::min<uint64_t>(zeros, zero_page.size());
      add(zero_page.data(), here);
      zeros -= here;
    }
    size_t piece = frame.next_piece_;
    while (piece < frame.pieces_.size() && room()) {
      add(frame.pieces_[piece].iov_base, frame.pieces_[piece].iov_len);
      ++piece;
    }
    if (zeros > 0 || piece < frame.pieces_.size()) break;
  }
  return used;
}

void FrameQueue::advance(size_t bytes) {
  while (!order_.empty()) {
    OutgoingFrame& frame = frames_[order_.front()];
    const size_t head = std::min(bytes, frame.head_.size() - frame.head_sent_);
    frame.head_sent_ += head;
    bytes -= head;
    const size_t zeros = std::min<uint64_t>(bytes, frame.zeros_);
    frame.zeros_ -= zeros;
    bytes -= zeros;
    while (bytes > 0 && frame.next_piece_ < frame.pieces_.size()) {
      iovec& piece = frame.pieces_[frame.next_piece_];
      bytes -= consume(piece, bytes);
      if (piece.iov_len == 0) ++frame.next_piece_;
    }
    if (!frame.is_sent()) break;
    spare_.push_back(order_.front());
    order_.erase(order_.begin());
    listener_.on_sent(frame.header_);
  }
  MEMPOOL_CHECK(bytes == 0);
}

void FrameQueue::stop(Slot slot) {
  std::erase_if(order_, [&](uint16_t index) {
    OutgoingFrame& frame = frames_[index];
    if (frame.header_.slot != slot || !stop_frame(frame)) return false;
    spare_.push_back(index);
    return true;
  });
}

// True when nothing of the frame is to be sent.
bool FrameQueue::stop_frame(OutgoingFrame& frame) {
  const bool begun = frame.head_sent_ > 0;
  if (frame.header_.type == FrameType::kReadEnd) {
    if (begun) return false;  // so all of the reply has gone out
    frame.header_.refused = true;
    frame.encode();
    return false;
  }
  if (begun && frame.next_piece_ == frame.pieces_.size()) return false;  // nothing left to stop
  if (begun) {
    while (frame.next_piece_ < frame.pieces_.size()) {
      frame.zeros_ += frame.pieces_[frame.next_piece_++].iov_len;
    }
  }
  listener_.on_stopped(frame.header_);
  return !begun;
}

bool FrameQueue::sends_from(const std::byte* base, uint64_t bytes) const {
  return std::any_of(order_.begin(), order_.end(), [&](uint16_t index) {
    const OutgoingFrame& frame = frames_[index];
    return std::any_of(
        frame.pieces_.begin() + static_cast<ptrdiff_t>(frame.next_piece_), frame.pieces_.end(),
        [&](const iovec& piece) { return overlap(piece.iov_base, piece.iov_len, base, bytes); });
  });
}

}  // namespace mempool
