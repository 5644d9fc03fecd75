// SPDX-License-Identifier: Apache-2.0
// Owns the relay's sockets and threads.
#include "tests/agent/welcome_proxy.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "core/listen_socket.h"

namespace mempool::testing {
namespace {

bool read_all(int from, std::span<std::byte> out) {
  return ::recv(from, out.data(), out.size(), MSG_WAITALL) == static_cast<ssize_t>(out.size());
}

bool write_all(int to, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::send(to, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
  return true;
}

int connect_to(const std::string& address) {
  std::string host;
  sockaddr_in where{};
  uint16_t port = 0;
  EXPECT_TRUE(split_address(address, host, port).ok());
  where.sin_family = AF_INET;
  where.sin_port = htons(port);
  inet_pton(AF_INET, host.c_str(), &where.sin_addr);
  const int descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(::connect(descriptor, reinterpret_cast<sockaddr*>(&where), sizeof(where)), 0);
  return descriptor;
}

}  // namespace

WelcomeProxy::WelcomeProxy(const std::string& acceptor, std::function<void(Welcome&)> change)
    : acceptor_(acceptor), change_(std::move(change)) {
  const ListenSocket socket = *listen_on("127.0.0.1", 0, "");
  listener_ = socket.descriptor;
  ::fcntl(listener_, F_SETFL, 0);  // accept() is to wait
  address_ = join_address(socket.host, socket.port);
  thread_ = std::thread([this] { relay(); });
}

WelcomeProxy::~WelcomeProxy() {
  ::shutdown(listener_, SHUT_RDWR);  // for an accept that nobody came to
  thread_.join();
  ::close(listener_);
}

void WelcomeProxy::relay() {
  const int dialer = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
  if (dialer < 0) return;
  const int acceptor = connect_to(acceptor_);
  std::thread there([&] {
    std::array<std::byte, 4096> bytes;
    while (true) {
      const ssize_t count = ::recv(dialer, bytes.data(), bytes.size(), 0);
      if (count <= 0 || !write_all(acceptor, std::span(bytes).first(count))) break;
    }
    ::shutdown(acceptor, SHUT_RDWR);
  });
  carry_frames(acceptor, dialer);
  ::shutdown(dialer, SHUT_RDWR);
  there.join();
  ::close(dialer);
  ::close(acceptor);
}

void WelcomeProxy::carry_frames(int from, int to) {
  while (true) {
    std::array<std::byte, 4> word;
    uint32_t length = 0;
    if (!read_all(from, word)) return;
    std::memcpy(&length, word.data(), word.size());
    std::vector<std::byte> body(length);
    if (!read_all(from, body)) return;
    Result<Frame> frame = decode(body);
    EXPECT_TRUE(frame.ok()) << frame.status().to_string();
    if (!frame.ok()) return;
    if (auto* welcome = std::get_if<Welcome>(&*frame)) change_(*welcome);
    if (!write_all(to, encode(*frame))) return;
  }
}

}  // namespace mempool::testing
