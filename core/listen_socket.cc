// SPDX-License-Identifier: Apache-2.0
// Owns the system calls that make a listening socket.
#include "core/listen_socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

#include <fmt/format.h>

#include "core/auth.h"
#include "core/check.h"

namespace mempool {
namespace {

bool numeric(const std::string& host, uint16_t port, sockaddr_storage& address, bool& v6) {
  auto* four = reinterpret_cast<sockaddr_in*>(&address);
  auto* six = reinterpret_cast<sockaddr_in6*>(&address);
  v6 = false;
  if (inet_pton(AF_INET, host.c_str(), &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
    return true;
  }
  v6 = inet_pton(AF_INET6, host.c_str(), &six->sin6_addr) == 1;
  six->sin6_family = AF_INET6;
  six->sin6_port = htons(port);
  return v6;
}

uint16_t bound_port(int descriptor) {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &length);
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&address)->sin6_port
                                             : reinterpret_cast<sockaddr_in*>(&address)->sin_port);
}

}  // namespace

Status split_address(const std::string& address, std::string& host, uint16_t& port) {
  const size_t colon = address.rfind(':');
  const size_t close = address.find(']');
  const bool bracketed = !address.empty() && address.front() == '[';
  if (colon == std::string::npos || colon == 0 || (bracketed && close + 1 != colon) ||
      (!bracketed && address.find(':') != colon)) {
    return invalid_argument(
        fmt::format("'{}' is no address; write host:port, a v6 host in brackets", address));
  }
  const char* end = address.data() + address.size();
  const auto [last, error] = std::from_chars(address.data() + colon + 1, end, port);
  if (error != std::errc() || last != end) {
    return invalid_argument(fmt::format("'{}' has no port from 0 to 65535", address));
  }
  host = bracketed ? address.substr(1, close - 1) : address.substr(0, colon);
  return {};
}

std::string join_address(const std::string& host, uint16_t port) {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

Result<ListenSocket> listen_on(const std::string& host, uint16_t port, const std::string& token) {
  MEMPOOL_RETURN_IF_ERROR(check_bind(host, token));
  ListenSocket result;
  result.host = host == "localhost" ? "127.0.0.1" : host;
  sockaddr_storage address{};
  if (!numeric(result.host, port, address, result.v6)) {
    return invalid_argument(fmt::format("'{}' is no host to listen on; give it as a number", host));
  }
  const int descriptor = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int one = 1;
  const socklen_t length = result.v6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  if (descriptor < 0 || setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
      bind(descriptor, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      listen(descriptor, SOMAXCONN) != 0) {
    const int error = errno;
    if (descriptor >= 0) close(descriptor);
    return unavailable(
        fmt::format("listening on {}: {}", join_address(host, port), std::strerror(error)));
  }
  result.descriptor = descriptor;
  result.port = bound_port(descriptor);
  return result;
}

}  // namespace mempool
