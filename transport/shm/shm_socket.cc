// SPDX-License-Identifier: Apache-2.0
// Owns the turns of a connection, and the message by which a descriptor travels.
#include "transport/shm/shm_socket.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstring>

#include "core/check.h"
#include "core/close_on_exec.h"
#include "core/unix_socket.h"

namespace mempool {
namespace {

using boost::asio::local::stream_protocol;

// Holds the largest frame, and some of the usual size.
constexpr size_t kBufferBytes = size_t{128} << 10;
static_assert(kBufferBytes >= kShmHeaderBytes + kShmBodyMax);
// Descriptors that may wait for their frames; ours send one with each.
constexpr size_t kDescriptorsMax = 16;
constexpr size_t kSendPieces = 16;
// Pause after an accept that failed, for one of out of descriptors.
constexpr std::chrono::milliseconds kAcceptPause{100};

Status unix_name(const std::string& name, sockaddr_un& address, socklen_t& length) {
  address = {};
  address.sun_family = AF_UNIX;
  if (name.size() + 1 > sizeof address.sun_path) {
    return invalid_argument(fmt::format("socket name {} is too long", name));
  }
  std::memcpy(address.sun_path + 1, name.data(), name.size());  // after a zero: abstract
  length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return {};
}

Descriptor make_socket() {
  return Descriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

bool would_block() {
  return errno == EAGAIN || errno == EWOULDBLOCK;
}

}  // namespace

ShmSocket::ShmSocket(boost::asio::io_context& io, Descriptor connected, ShmSocketOwner& owner)
    : socket_(io), deadline_(io), owner_(&owner), buffer_(kBufferBytes) {
  boost::system::error_code error;
  socket_.assign(stream_protocol(), connected.number(), error);
  if (error) {
    failure_ = unavailable(fmt::format("watch a socket: {}", error.message()));
  } else {
    connected.release();
  }
}

Status ShmSocket::check_user() const {
  ucred peer{};
  socklen_t length = sizeof peer;
  const int descriptor = const_cast<stream_protocol::socket&>(socket_).native_handle();
  if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
    return unavailable(fmt::format("SO_PEERCRED: {}", std::strerror(errno)));
  }
  if (peer.uid == geteuid()) return {};
  return permission_denied(fmt::format(
      "the peer's process is of user {}, this one of {}; shm is for processes of one user, use tcp",
      peer.uid, geteuid()));
}

void ShmSocket::start() {
  schedule();
}

void ShmSocket::schedule() {
  if (std::exchange(scheduled_, true)) return;
  boost::asio::post(socket_.get_executor(), [self = shared_from_this()] {
    self->scheduled_ = false;
    if (self->owner_ != nullptr) self->turn();
  });
}

void ShmSocket::wait_readable() {
  if (std::exchange(waiting_readable_, true)) return;
  socket_.async_wait(stream_protocol::socket::wait_read,
                     [self = shared_from_this()](const boost::system::error_code& error) {
                       self->waiting_readable_ = false;
                       if (!error && self->owner_ != nullptr && !self->scheduled_) self->turn();
                     });
}

void ShmSocket::wait_writable() {
  waiting_writable_ = true;
  socket_.async_wait(stream_protocol::socket::wait_write,
                     [self = shared_from_this()](const boost::system::error_code& error) {
                       self->waiting_writable_ = false;
                       if (error || self->owner_ == nullptr) return;
                       self->flush();
                       if (self->paused_ && !self->is_full()) {
                         self->paused_ = false;
                         self->schedule();
                       }
                     });
}

void ShmSocket::set_deadline(std::chrono::milliseconds timeout) {
  deadline_.expires_after(timeout);
  deadline_.async_wait(
      [self = shared_from_this(), timeout](const boost::system::error_code& error) {
        if (error || self->owner_ == nullptr) return;
        self->fail(unavailable(fmt::format("not done in {} ms", timeout.count())));
      });
}

// One frame, or what comes before it.
void ShmSocket::turn() {
  if (!failure_.ok()) return fail(failure_);
  const Result<bool> busy = owner_->on_turn();
  if (owner_ == nullptr) return;
  if (!busy.ok()) return fail(busy.status());
  if (*busy) return schedule();
  if (is_full()) {
    paused_ = true;
    return;
  }
  for (;;) {
    ShmHeader header;
    const Result<bool> whole = has_frame(header);
    if (!whole.ok()) {
      owner_->on_unreadable(whole.status());
      return fail(whole.status());
    }
    if (*whole) {
      const std::span<const std::byte> body(buffer_.data() + begin_ + kShmHeaderBytes,
                                            header.body_bytes);
      begin_ += kShmHeaderBytes + header.body_bytes;
      const Status status = owner_->on_frame(header, body);
      if (owner_ == nullptr) return;
      return status.ok() ? schedule() : fail(status);
    }
    const Result<bool> more = receive();
    if (!more.ok()) return fail(more.status());
    if (!*more) return wait_readable();
  }
}

Result<bool> ShmSocket::has_frame(ShmHeader& header) const {
  const std::span<const std::byte> waiting(buffer_.data() + begin_, end_ - begin_);
  if (waiting.size() < kShmHeaderBytes) return false;
  MEMPOOL_ASSIGN_OR_RETURN(header, decode_shm_header(waiting.first<kShmHeaderBytes>()));
  return waiting.size() >= kShmHeaderBytes + header.body_bytes;
}

bool ShmSocket::holds_frame() const {
  ShmHeader header;
  const Result<bool> whole = has_frame(header);
  return whole.ok() && *whole;
}

// Read once. False when nothing is there.
Result<bool> ShmSocket::receive() {
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  iovec place{buffer_.data() + end_, buffer_.size() - end_};
  alignas(cmsghdr) char control[CMSG_SPACE(kDescriptorsMax * sizeof(int))];
  msghdr message{};
  message.msg_iov = &place;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = 0;
  do {
    ++system_calls_;
    got = ::recvmsg(socket_.native_handle(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && would_block()) return false;
  if (got < 0) return unavailable(fmt::format("receive: {}", std::strerror(errno)));
  MEMPOOL_RETURN_IF_ERROR(keep_descriptors(message));
  if (got == 0) {
    return unavailable(begin_ != end_ ? "the peer closed in the middle of a frame"
                                      : "the peer closed the connection");
  }
  end_ += static_cast<size_t>(got);
  return true;
}

Status ShmSocket::keep_descriptors(msghdr& message) {
  for (Descriptor& each : descriptors_of(message)) descriptors_.push_back(std::move(each));
  if ((message.msg_flags & MSG_CTRUNC) == 0 && descriptors_.size() <= kDescriptorsMax) return {};
  return invalid_argument(
      fmt::format("malformed frame: more than {} descriptors came along", kDescriptorsMax));
}

Result<Descriptor> ShmSocket::take_descriptor() {
  if (descriptors_.empty()) {
    return invalid_argument("malformed frame: memory without its descriptor");
  }
  Descriptor descriptor = std::move(descriptors_.front());
  descriptors_.pop_front();
  return descriptor;
}

std::byte* ShmSocket::add(const ShmHeader& header, Descriptor descriptor) {
  if (spare_.empty()) {
    spare_.push_back(frames_.size());
    frames_.emplace_back();
  }
  const size_t index = spare_.back();
  spare_.pop_back();
  order_.push_back(index);
  Outgoing& frame = frames_[index];
  frame.header = header;
  frame.size = kShmHeaderBytes + header.body_bytes;
  if (frame.bytes.size() < frame.size) frame.bytes.resize(frame.size);
  frame.sent = 0;
  frame.descriptor = std::move(descriptor);
  encode_shm_header(header, frame.bytes.data());
  return frame.bytes.data() + kShmHeaderBytes;
}

void ShmSocket::stop(Slot slot) {
  std::erase_if(order_, [&](size_t index) {
    const Outgoing& frame = frames_[index];
    const bool stoppable =
        frame.header.type == ShmFrameType::kList || frame.header.type == ShmFrameType::kNotify;
    if (!stoppable || frame.header.slot != slot || frame.sent > 0) return false;
    spare_.push_back(index);
    return true;
  });
}

// Send the frames up to the next one that has a descriptor, which begins a message.
ssize_t ShmSocket::send() {
  std::array<iovec, kSendPieces> pieces;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = pieces.data();
  for (const size_t index : order_) {
    Outgoing& frame = frames_[index];
    const bool has_descriptor = frame.descriptor.valid() && frame.sent == 0;
    if (message.msg_iovlen == kSendPieces || (has_descriptor && message.msg_iovlen > 0)) break;
    pieces[message.msg_iovlen++] = {frame.bytes.data() + frame.sent, frame.size - frame.sent};
    if (!has_descriptor) continue;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(int));
    const int number = frame.descriptor.number();
    std::memcpy(CMSG_DATA(part), &number, sizeof number);
    break;
  }
  ++system_calls_;
  return ::sendmsg(socket_.native_handle(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void ShmSocket::sent(size_t bytes) {
  size_t done = 0;
  while (bytes > 0) {
    Outgoing& frame = frames_[order_[done]];
    const size_t here = std::min(bytes, frame.size - frame.sent);
    frame.sent += here;
    bytes -= here;
    frame.descriptor = Descriptor();  // it went with the first byte
    if (frame.sent < frame.size) break;
    spare_.push_back(order_[done++]);
  }
  order_.erase(order_.begin(), order_.begin() + static_cast<ptrdiff_t>(done));
}

void ShmSocket::flush() {
  while (!order_.empty() && !waiting_writable_ && failure_.ok()) {
    const ssize_t count = send();
    if (count >= 0) {
      sent(static_cast<size_t>(count));
    } else if (would_block()) {
      wait_writable();
    } else if (errno != EINTR) {
      fail_later(unavailable(fmt::format("send: {}", std::strerror(errno))));
    }
  }
}

void ShmSocket::fail_later(const Status& why) {
  if (failure_.ok()) failure_ = why;
  schedule();
}

void ShmSocket::close() {
  owner_ = nullptr;
  deadline_.cancel();
  boost::system::error_code ignored;
  socket_.close(ignored);
}

void ShmSocket::fail(const Status& why) {
  ShmSocketOwner* owner = owner_;
  const Status kept = why;  // `why` may be of what goes
  close();
  owner->on_closed(kept);
}

Result<Descriptor> dial_shm(const std::string& name) {
  sockaddr_un address;
  socklen_t length = 0;
  MEMPOOL_RETURN_IF_ERROR(unix_name(name, address, length));
  Descriptor socket = make_socket();
  if (socket.valid() &&
      ::connect(socket.number(), reinterpret_cast<const sockaddr*>(&address), length) == 0) {
    return socket;
  }
  if (errno == ECONNREFUSED) {
    return unavailable(fmt::format(
        "nobody listens on @{} here; the peer has gone, or is on another host or in another "
        "network namespace: use tcp",
        name));
  }
  return unavailable(fmt::format("connect to @{}: {}", name, std::strerror(errno)));
}

Result<std::shared_ptr<ShmListener>> ShmListener::open(boost::asio::io_context& io,
                                                       const std::string& name,
                                                       Handler on_connection) {
  sockaddr_un address;
  socklen_t length = 0;
  MEMPOOL_RETURN_IF_ERROR(unix_name(name, address, length));
  Descriptor socket = make_socket();
  if (!socket.valid() ||
      ::bind(socket.number(), reinterpret_cast<const sockaddr*>(&address), length) != 0 ||
      ::listen(socket.number(), SOMAXCONN) != 0) {
    return unavailable(fmt::format("listen on @{}: {}", name, std::strerror(errno)));
  }
  std::shared_ptr<ShmListener> listener(new ShmListener(io, std::move(on_connection)));
  boost::system::error_code error;
  listener->acceptor_.assign(stream_protocol(), socket.number(), error);
  if (error) return unavailable(fmt::format("listen on @{}: {}", name, error.message()));
  socket.release();
  listener->accept();
  return listener;
}

void ShmListener::accept() {
  acceptor_.async_accept([self = shared_from_this()](const boost::system::error_code& error,
                                                     stream_protocol::socket socket) {
    if (!self->on_connection_) return;
    if (!error) {
      close_on_exec(socket.native_handle());
      boost::system::error_code lost;
      Descriptor connected(socket.release(lost));
      if (!lost) self->on_connection_(std::move(connected));
      if (self->on_connection_) self->accept();
      return;
    }
    self->pause_.expires_after(kAcceptPause);
    self->pause_.async_wait([self](const boost::system::error_code&) {
      if (self->on_connection_) self->accept();
    });
  });
}

void ShmListener::close() {
  on_connection_ = nullptr;
  pause_.cancel();
  boost::system::error_code ignored;
  acceptor_.close(ignored);
}

void run_later(boost::asio::io_context& io, std::function<void()> action) {
  boost::asio::post(io, std::move(action));
}

}  // namespace mempool
