// SPDX-License-Identifier: Apache-2.0
// Owns one blocking HTTP/1.0 exchange; the answer ends where the connection does.
#include "cli/http_get.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <span>
#include <string_view>

#include "core/check.h"
#include "core/timed_socket.h"

namespace mempool {
namespace {

constexpr size_t kAnswerBytesMax = 16 << 20;
constexpr size_t kReadBytes = 64 << 10;

Result<std::string> receive_to_end(int descriptor, const TimeLeft& time_left) {
  std::string answer;
  std::string part(kReadBytes, '\0');
  while (answer.size() <= kAnswerBytesMax) {
    MEMPOOL_RETURN_IF_ERROR(time_left.wait(descriptor, POLLIN));
    const ssize_t got = ::recv(descriptor, part.data(), part.size(), MSG_DONTWAIT);
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

}  // namespace

Result<HttpPage> http_get(const std::string& address, const std::string& path,
                          const std::string& token, std::chrono::milliseconds timeout) {
  const std::string bearer =
      token.empty() ? "" : fmt::format("Authorization: Bearer {}\r\n", token);
  const std::string request =
      fmt::format("GET {} HTTP/1.0\r\nHost: {}\r\n{}\r\n", path, address, bearer);
  const TimeLeft time_left(timeout);
  MEMPOOL_ASSIGN_OR_RETURN(const Descriptor connected, connect_to(address, time_left));
  Status status = send_all(connected.number(), std::as_bytes(std::span(request)), time_left);
  if (!status.ok()) return status.with_context(address);
  const Result<std::string> answer = receive_to_end(connected.number(), time_left);
  if (!answer.ok()) return answer.status().with_context(address);
  Result<HttpPage> page = parse_answer(*answer);
  return page.ok() ? page : page.status().with_context(address);
}

}  // namespace mempool
