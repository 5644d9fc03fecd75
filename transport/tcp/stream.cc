// SPDX-License-Identifier: Apache-2.0
// Owns the two loops of a stream: read until the socket is empty, send until it is full, neither
// for longer than a turn.
#include "transport/tcp/stream.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstring>

namespace mempool {
namespace {

// What one call asks of the kernel at most; more would only be listed again by the next.
constexpr size_t kSendBytes = size_t{2} << 20;
// What one turn moves before others on the thread have theirs.
constexpr size_t kTurnBytes = size_t{8} << 20;

size_t sum(const iovec* list, size_t count) {
  size_t bytes = 0;
  for (size_t i = 0; i < count; ++i) bytes += list[i].iov_len;
  return bytes;
}

}  // namespace

Stream::Stream(boost::asio::ip::tcp::socket socket, StreamOwner& owner, size_t queue_capacity,
               CallCounts& counts)
    : socket_(std::move(socket)),
      owner_(&owner),
      counts_(counts),
      reader_(owner),
      queue_(queue_capacity, owner),
      places_(FrameReader::kPlacesMax),
      pieces_(FrameReader::kPlacesMax) {}

void Stream::start() {
  wait_readable();
}

void Stream::wait_readable() {
  socket_.async_wait(boost::asio::ip::tcp::socket::wait_read,
                     [self = shared_from_this()](const boost::system::error_code& error) {
                       if (!error && self->owner_ != nullptr) self->on_readable();
                     });
}

void Stream::wait_writable() {
  socket_.async_wait(boost::asio::ip::tcp::socket::wait_write,
                     [self = shared_from_this()](const boost::system::error_code& error) {
                       if (!error && self->owner_ != nullptr) self->on_writable();
                     });
}

void Stream::flush() {
  if (owner_ == nullptr || sending_ || queue_.empty()) return;
  sending_ = true;
  boost::asio::post(socket_.get_executor(), [self = shared_from_this()] {
    if (self->owner_ != nullptr) self->on_writable();
  });
}

ssize_t Stream::receive() {
  const size_t count = reader_.prepare(places_);
  places_bytes_ = sum(places_.data(), count);
  ++*counts_.system_calls;
  return ::readv(socket_.native_handle(), places_.data(), static_cast<int>(count));
}

void Stream::on_readable() {
  for (size_t turn = 0; turn < kTurnBytes;) {
    const ssize_t got = receive();
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (got < 0) return fail(unavailable(fmt::format("receive: {}", std::strerror(errno))));
    if (got == 0) {
      return fail(unavailable(reader_.in_frame() ? "the peer closed in the middle of a frame"
                                                 : "the peer closed the connection"));
    }
    const Status status = reader_.advance(static_cast<size_t>(got));
    if (!status.ok()) return fail(status);
    if (owner_ == nullptr) return;
    if (static_cast<size_t>(got) < places_bytes_) break;  // the socket is empty
    turn += static_cast<size_t>(got);
  }
  wait_readable();
}

ssize_t Stream::send() {
  msghdr message{};
  message.msg_iov = pieces_.data();
  message.msg_iovlen = queue_.gather(pieces_, kSendBytes);
  pieces_bytes_ = sum(pieces_.data(), message.msg_iovlen);
  ++*counts_.system_calls;
  return ::sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void Stream::on_writable() {
  sending_ = false;
  for (size_t turn = 0; turn < kTurnBytes && !queue_.empty();) {
    const ssize_t sent = send();
    if (sent < 0 && errno == EINTR) continue;
    const bool full = sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
    if (sent < 0 && !full) {
      return fail(unavailable(fmt::format("send: {}", std::strerror(errno))));
    }
    if (sent > 0) queue_.advance(static_cast<size_t>(sent));
    if (full || static_cast<size_t>(sent) < pieces_bytes_) {
      sending_ = true;
      return wait_writable();
    }
    turn += static_cast<size_t>(sent);
  }
  flush();
}

void Stream::close() {
  owner_ = nullptr;
  boost::system::error_code ignored;
  socket_.close(ignored);
}

void Stream::fail(const Status& why) {
  StreamOwner* owner = owner_;
  close();
  owner->on_closed(why);
}

}  // namespace mempool
