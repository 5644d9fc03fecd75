// SPDX-License-Identifier: Apache-2.0
// Owns the two ends of a bare round trip. A request begins with its own and its answer's length.
#include "perf/echo_process.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "core/check.h"

namespace mempool {
namespace {

using Lengths = std::array<uint64_t, 2>;

bool send_all(int socket, const std::byte* from, size_t bytes) {
  while (bytes > 0) {
    const ssize_t sent = ::send(socket, from, bytes, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    from += sent;
    bytes -= static_cast<size_t>(sent);
  }
  return true;
}

bool receive_all(int socket, std::byte* into, size_t bytes) {
  while (bytes > 0) {
    const ssize_t got = ::recv(socket, into, bytes, 0);
    if (got <= 0) return false;
    into += got;
    bytes -= static_cast<size_t>(got);
  }
  return true;
}

void echo(int socket) {
  std::vector<std::byte> bytes;
  for (Lengths lengths;
       receive_all(socket, reinterpret_cast<std::byte*>(&lengths), sizeof lengths);) {
    bytes.resize(std::max(bytes.size(), std::max(lengths[0], lengths[1])));
    if (!receive_all(socket, bytes.data(), lengths[0] - sizeof lengths)) return;
    if (!send_all(socket, bytes.data(), lengths[1])) return;
  }
}

Status failed(const char* what) {
  return unavailable(fmt::format("{} of a bare round trip: {}", what, std::strerror(errno)));
}

Result<std::pair<Descriptor, Descriptor>> unix_pair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return failed("socketpair");
  return std::pair(Descriptor(ends[0]), Descriptor(ends[1]));
}

Result<std::pair<Descriptor, Descriptor>> tcp_pair() {
  const Descriptor listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  Descriptor near(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  socklen_t length = sizeof address;
  if (::bind(listener.number(), any, length) != 0 || ::listen(listener.number(), 1) != 0 ||
      ::getsockname(listener.number(), any, &length) != 0 ||
      ::connect(near.number(), any, length) != 0) {
    return failed("connect");
  }
  Descriptor far(::accept4(listener.number(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!far.valid()) return failed("accept");
  const int on = 1;
  for (const Descriptor* end : {&near, &far}) {
    ::setsockopt(end->number(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  return std::pair(std::move(near), std::move(far));
}

}  // namespace

Result<EchoProcess> EchoProcess::start(EchoOver over, int core) {
  MEMPOOL_ASSIGN_OR_RETURN(auto ends, over == EchoOver::kUnix ? unix_pair() : tcp_pair());
  MEMPOOL_ASSIGN_OR_RETURN(ChildProcess child, ChildProcess::start([&] {
                             const OnCore pinned(core);
                             echo(ends.second.number());
                           }));
  return EchoProcess(std::move(child), std::move(ends.first));
}

Status EchoProcess::round_trip(uint64_t request_bytes, uint64_t answer_bytes) {
  const Lengths lengths = {std::max<uint64_t>(request_bytes, sizeof(Lengths)), answer_bytes};
  if (bytes_.size() < std::max(lengths[0], lengths[1])) {
    bytes_.resize(std::max(lengths[0], lengths[1]));
  }
  std::memcpy(bytes_.data(), &lengths, sizeof lengths);
  if (!send_all(socket_.number(), bytes_.data(), lengths[0])) return failed("send");
  if (!receive_all(socket_.number(), bytes_.data(), answer_bytes)) return failed("receive");
  return {};
}

}  // namespace mempool
