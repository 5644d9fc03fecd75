// SPDX-License-Identifier: Apache-2.0
// Owns the loops over sendmsg and recvmsg.
#include "perf/bare_stream.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "core/check.h"

namespace mempool {
namespace {

// A receiver that waits for this much is woken less often; more than this was not faster.
constexpr size_t kReceiveBytes = 1 << 20;

Status failed(const char* what) {
  return unavailable(fmt::format("bare socket: {}: {}", what, std::strerror(errno)));
}

void set_option(int descriptor, int level, int name, int value) {
  (void)::setsockopt(descriptor, level, name, &value, sizeof(value));
}

int make_socket(const SocketBuffers& buffers) {
  const int descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
  if (descriptor < 0) return descriptor;
  set_option(descriptor, IPPROTO_TCP, TCP_NODELAY, 1);
  if (buffers.send > 0) {
    set_option(descriptor, SOL_SOCKET, SO_SNDBUF, static_cast<int>(buffers.send));
  }
  if (buffers.receive > 0) {
    set_option(descriptor, SOL_SOCKET, SO_RCVBUF, static_cast<int>(buffers.receive));
  }
  return descriptor;
}

sockaddr_in loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

/// Step over `bytes` of pieces from `first` on.
size_t advance(std::vector<iovec>& pieces, size_t first, size_t bytes) {
  while (first < pieces.size() && bytes >= pieces[first].iov_len) bytes -= pieces[first++].iov_len;
  if (bytes > 0) {
    pieces[first].iov_base = static_cast<std::byte*>(pieces[first].iov_base) + bytes;
    pieces[first].iov_len -= bytes;
  }
  return first;
}

/// Give how many pieces one call takes: at most IOV_MAX, and no more once they have `bytes`.
size_t pieces_of_call(const std::vector<iovec>& pieces, size_t first, size_t bytes) {
  const size_t most = std::min<size_t>(pieces.size() - first, IOV_MAX);
  size_t count = 0;
  for (size_t sum = 0; count < most && sum < bytes; ++count) sum += pieces[first + count].iov_len;
  return count;
}

template <typename Move>
Status move_all(std::vector<iovec>& pieces, size_t bytes_a_call, const char* what,
                const Move& move) {
  for (size_t first = 0; first < pieces.size();) {
    msghdr message{};
    message.msg_iov = pieces.data() + first;
    message.msg_iovlen = pieces_of_call(pieces, first, bytes_a_call);
    const ssize_t moved = move(message);
    if (moved == 0) return unavailable("bare socket: the other process closed it");
    if (moved < 0 && errno != EINTR) return failed(what);
    if (moved > 0) first = advance(pieces, first, static_cast<size_t>(moved));
  }
  return Status();
}

}  // namespace

std::vector<iovec> merged(const std::vector<iovec>& pieces) {
  std::vector<iovec> result;
  for (const iovec& piece : pieces) {
    if (!result.empty() &&
        static_cast<std::byte*>(result.back().iov_base) + result.back().iov_len == piece.iov_base) {
      result.back().iov_len += piece.iov_len;
    } else {
      result.push_back(piece);
    }
  }
  return result;
}

Result<BareStream> BareStream::connect(uint16_t port, const SocketBuffers& buffers) {
  BareStream stream(make_socket(buffers));
  const sockaddr_in address = loopback(port);
  if (::connect(stream.descriptor_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) !=
      0) {
    return failed("connect");
  }
  return stream;
}

BareStream::BareStream(BareStream&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

BareStream::~BareStream() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Status BareStream::send(std::vector<iovec> pieces) {
  return move_all(pieces, SIZE_MAX, "sendmsg", [this](const msghdr& message) {
    return ::sendmsg(descriptor_, &message, MSG_NOSIGNAL);
  });
}

Status BareStream::receive(std::vector<iovec> pieces) {
  return move_all(pieces, kReceiveBytes, "recvmsg", [this](msghdr& message) {
    return ::recvmsg(descriptor_, &message, MSG_WAITALL);
  });
}

Result<BareListener> BareListener::open(const SocketBuffers& buffers) {
  BareListener listener(make_socket(buffers), 0);
  sockaddr_in address = loopback(0);
  socklen_t length = sizeof(address);
  auto* const named = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener.descriptor_, named, length) != 0) return failed("bind");
  if (::listen(listener.descriptor_, 1) != 0) return failed("listen");
  if (::getsockname(listener.descriptor_, named, &length) != 0) return failed("getsockname");
  listener.port_ = ntohs(address.sin_port);
  return listener;
}

BareListener::BareListener(BareListener&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), port_(other.port_) {}

BareListener::~BareListener() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<BareStream> BareListener::accept() {
  BareStream stream(::accept4(descriptor_, nullptr, nullptr, SOCK_CLOEXEC));
  if (stream.descriptor_ < 0) return failed("accept");
  set_option(stream.descriptor_, IPPROTO_TCP, TCP_NODELAY, 1);
  return stream;
}

}  // namespace mempool
