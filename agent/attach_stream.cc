// SPDX-License-Identifier: Apache-2.0
// Owns the cutting of bytes into frames.
#include "agent/attach_stream.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "core/check.h"
#include "core/unix_socket.h"

namespace mempool {
namespace {

constexpr size_t kReceiveBytes = size_t{64} << 10;
constexpr size_t kBufferKept = size_t{1} << 20;  // of an idle stream

}  // namespace

void AttachStream::queue(const AttachFrame& frame, std::vector<Descriptor> descriptors) {
  outgoing_.push_back({encode_attach(frame), std::move(descriptors)});
}

Result<bool> AttachStream::flush() {
  while (!outgoing_.empty()) {
    Outgoing& next = outgoing_.front();
    const auto left = std::span(next.descriptors).subspan(next.descriptors_sent);
    std::vector<int> some;
    for (const Descriptor& each : left.first(std::min(left.size(), kDescriptorsAtOnce))) {
      some.push_back(each.number());
    }
    auto bytes = std::span(std::as_const(next.bytes)).subspan(next.sent);
    if (some.size() < left.size()) bytes = bytes.first(1);  // the rest goes with the next byte
    MEMPOOL_ASSIGN_OR_RETURN(const size_t sent, send_some(socket_.number(), bytes, some));
    if (sent == 0) return false;
    next.sent += sent;
    next.descriptors_sent += some.size();
    if (next.sent == next.bytes.size()) outgoing_.pop_front();
  }
  return true;
}

Result<std::optional<AttachFrame>> AttachStream::next() {
  uint32_t size = 0;
  if (end_ - begin_ < sizeof size) return std::optional<AttachFrame>();
  std::memcpy(&size, incoming_.data() + begin_, sizeof size);
  if (size > kAttachFrameBytesMax) {
    return corruption(
        fmt::format("a frame of {} bytes; the most is {}", size, kAttachFrameBytesMax));
  }
  if (end_ - begin_ < sizeof size + size) return std::optional<AttachFrame>();
  const auto* first = incoming_.data() + begin_ + sizeof size;
  const std::vector<std::byte> body(first, first + size);  // new memory, aligned for its numbers
  begin_ += sizeof size + size;
  if (begin_ == end_) {
    begin_ = end_ = 0;
    if (incoming_.size() > kBufferKept) incoming_ = {};
  }
  MEMPOOL_ASSIGN_OR_RETURN(AttachFrame frame, decode_attach(body));
  return std::optional<AttachFrame>(std::move(frame));
}

Result<bool> AttachStream::receive() {
  if (incoming_.size() - end_ < kReceiveBytes) {
    incoming_.erase(incoming_.begin(), incoming_.begin() + static_cast<ptrdiff_t>(begin_));
    end_ -= begin_;
    begin_ = 0;
    incoming_.resize(std::max(incoming_.size(), 2 * end_ + kReceiveBytes));
  }
  MEMPOOL_ASSIGN_OR_RETURN(
      const size_t got,
      receive_some(socket_.number(), std::span(incoming_).subspan(end_), descriptors_));
  end_ += got;
  return got > 0;
}

}  // namespace mempool
