// SPDX-License-Identifier: Apache-2.0
// Owns the loops around poll.
#include "core/timed_socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstring>
#include <memory>

#include <fmt/format.h>

#include "core/check.h"
#include "core/listen_socket.h"

namespace mempool {
namespace {

bool may_come_later() {
  return errno == EAGAIN || errno == EINTR;
}

Status await_connected(int descriptor, const addrinfo& address, const TimeLeft& time_left) {
  if (::connect(descriptor, address.ai_addr, address.ai_addrlen) == 0) return Status();
  if (errno != EINPROGRESS) return unavailable(std::strerror(errno));
  MEMPOOL_RETURN_IF_ERROR(time_left.wait(descriptor, POLLOUT));
  int error = 0;
  socklen_t length = sizeof(error);
  ::getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &length);
  return error == 0 ? Status() : unavailable(std::strerror(error));
}

Result<Descriptor> connect_one(const addrinfo& address, const TimeLeft& time_left,
                               const std::function<void(int)>& prepare) {
  Descriptor socket(
      ::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!socket.valid()) return unavailable(std::strerror(errno));
  if (prepare) prepare(socket.number());
  MEMPOOL_RETURN_IF_ERROR(await_connected(socket.number(), address, time_left));
  ::fcntl(socket.number(), F_SETFL, ::fcntl(socket.number(), F_GETFL) & ~O_NONBLOCK);
  return socket;
}

}  // namespace

Status TimeLeft::wait(int descriptor, short events) const {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end_ - Clock::now()).count();
    pollfd entry{descriptor, events, 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(std::clamp<int64_t>(left, 0, INT_MAX)));
    if (ready > 0) return Status();
    if (ready == 0) return unavailable("no answer in time");
    if (errno != EINTR) return unavailable(std::strerror(errno));
  }
}

Result<Descriptor> connect_to(const std::string& address, const TimeLeft& time_left,
                              const std::function<void(int)>& prepare) {
  std::string host;
  uint16_t port = 0;
  MEMPOOL_RETURN_IF_ERROR(split_address(address, host, port));
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failed = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (failed != 0) return unavailable(fmt::format("{}: {}", address, ::gai_strerror(failed)));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> resolved(found, &freeaddrinfo);
  Status refused;
  for (const addrinfo* next = resolved.get(); next != nullptr; next = next->ai_next) {
    // "localhost" has a v6 address too
    Result<Descriptor> connected = connect_one(*next, time_left, prepare);
    if (connected.ok()) return connected;
    refused = connected.status();
  }
  return refused.with_context(address);
}

Status send_all(int descriptor, std::span<const std::byte> bytes, const TimeLeft& time_left) {
  while (!bytes.empty()) {
    MEMPOOL_RETURN_IF_ERROR(time_left.wait(descriptor, POLLOUT));
    const ssize_t sent =
        ::send(descriptor, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && !may_come_later()) return unavailable(std::strerror(errno));
    bytes = bytes.subspan(static_cast<size_t>(std::max<ssize_t>(sent, 0)));
  }
  return Status();
}

Status receive_all(int descriptor, std::span<std::byte> bytes, const TimeLeft& time_left) {
  while (!bytes.empty()) {
    MEMPOOL_RETURN_IF_ERROR(time_left.wait(descriptor, POLLIN));
    const ssize_t got = ::recv(descriptor, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got == 0) return unavailable("the other end closed the connection");
    if (got < 0 && !may_come_later()) return unavailable(std::strerror(errno));
    bytes = bytes.subspan(static_cast<size_t>(std::max<ssize_t>(got, 0)));
  }
  return Status();
}

}  // namespace mempool
