// SPDX-License-Identifier: Apache-2.0
// Owns one blocking HTTP/1.0 exchange; the answer ends where the connection does.
#include "cli/http_get.h"

#include <fmt/format.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <string_view>

#include "core/check.h"
#include "core/listen_socket.h"

namespace mempool {
namespace {

constexpr size_t kAnswerBytesMax = 16 << 20;
constexpr size_t kReadBytes = 64 << 10;

/// A descriptor that closes itself. Thread: confined.
class Socket {
 public:
  explicit Socket(int descriptor) : descriptor_(descriptor) {}
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  int get() const { return descriptor_; }

 private:
  int descriptor_;
};

/// The time that an exchange has left. Thread: confined.
class TimeLeft {
 public:
  explicit TimeLeft(std::chrono::milliseconds time) : end_(Clock::now() + time) {}
  /// Wait for `events`. Errors: kUnavailable when the time is over.
  Status wait(int descriptor, short events) const {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end_ - Clock::now()).count();
    pollfd entry{descriptor, events, 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(std::max<int64_t>(left, 0)));
    if (ready > 0) return Status();
    return unavailable(ready == 0 ? "no answer in time" : std::strerror(errno));
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point end_;
};

Status connect_to(const addrinfo& address, int descriptor, const TimeLeft& time_left) {
  if (::connect(descriptor, address.ai_addr, address.ai_addrlen) == 0) return Status();
  if (errno != EINPROGRESS) return unavailable(std::strerror(errno));
  MEMPOOL_RETURN_IF_ERROR(time_left.wait(descriptor, POLLOUT));
  int error = 0;
  socklen_t length = sizeof(error);
  getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &length);
  return error == 0 ? Status() : unavailable(std::strerror(error));
}

Status send_all(int descriptor, std::string_view text, const TimeLeft& time_left) {
  while (!text.empty()) {
    MEMPOOL_RETURN_IF_ERROR(time_left.wait(descriptor, POLLOUT));
    const ssize_t sent = ::send(descriptor, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return unavailable(std::strerror(errno));
    text.remove_prefix(static_cast<size_t>(std::max<ssize_t>(sent, 0)));
  }
  return Status();
}

Result<std::string> receive_all(int descriptor, const TimeLeft& time_left) {
  std::string answer;
  std::string part(kReadBytes, '\0');
  while (answer.size() <= kAnswerBytesMax) {
    MEMPOOL_RETURN_IF_ERROR(time_left.wait(descriptor, POLLIN));
    const ssize_t got = ::recv(descriptor, part.data(), part.size(), 0);
    if (got == 0) return answer;
    if (got < 0 && errno != EAGAIN && errno != EINTR) return unavailable(std::strerror(errno));
    answer.append(part, 0, static_cast<size_t>(std::max<ssize_t>(got, 0)));
  }
  return unavailable(fmt::format("the answer is longer than {} bytes", kAnswerBytesMax));
}

Result<HttpPage> parse_answer(std::string_view answer) {
  constexpr std::string_view kHeaderEnd = "\r\n\r\n";
  const size_t header = answer.find(kHeaderEnd);
  const size_t space = answer.find(' ');
  HttpPage page;
  if (!answer.starts_with("HTTP/1.") || header == std::string_view::npos || space > header ||
      std::from_chars(answer.data() + space + 1, answer.data() + header, page.code).ec !=
          std::errc()) {
    return unavailable("the answer is not HTTP; is this the agent's admin address?");
  }
  page.body = answer.substr(header + kHeaderEnd.size());
  return page;
}

Result<HttpPage> exchange(const addrinfo& address, const std::string& request,
                          const TimeLeft& time_left) {
  const Socket socket(
      ::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (socket.get() < 0) return unavailable(std::strerror(errno));
  MEMPOOL_RETURN_IF_ERROR(connect_to(address, socket.get(), time_left));
  MEMPOOL_RETURN_IF_ERROR(send_all(socket.get(), request, time_left));
  MEMPOOL_ASSIGN_OR_RETURN(const std::string answer, receive_all(socket.get(), time_left));
  return parse_answer(answer);
}

}  // namespace

Result<HttpPage> http_get(const std::string& address, const std::string& path,
                          const std::string& token, std::chrono::milliseconds timeout) {
  std::string host;
  uint16_t port = 0;
  MEMPOOL_RETURN_IF_ERROR(split_address(address, host, port));
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failed = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (failed != 0) return unavailable(fmt::format("{}: {}", address, gai_strerror(failed)));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> resolved(found, &freeaddrinfo);
  const std::string bearer =
      token.empty() ? "" : fmt::format("Authorization: Bearer {}\r\n", token);
  const std::string request =
      fmt::format("GET {} HTTP/1.0\r\nHost: {}\r\n{}\r\n", path, address, bearer);
  const TimeLeft time_left(timeout);
  Status refused;
  for (const addrinfo* next = resolved.get(); next != nullptr; next = next->ai_next) {
    // "localhost" has a v6 address too
    Result<HttpPage> page = exchange(*next, request, time_left);
    if (page.ok()) return page;
    refused = page.status();
  }
  return refused.with_context(address);
}

}  // namespace mempool
