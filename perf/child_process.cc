// SPDX-License-Identifier: Apache-2.0
// Owns the fork, and the packets of the channel.
#include "perf/child_process.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "core/check.h"

namespace mempool {
namespace {

constexpr size_t kPacketBytesMax = 16 << 10;
constexpr size_t kHeaderBytes = sizeof(uint32_t) + sizeof(uint64_t);
constexpr timeval kSilenceMax{60, 0};

}  // namespace

Channel::~Channel() {
  ::close(descriptor_);
}

Status Channel::send(const ChannelMessage& message) {
  std::string packet(kHeaderBytes, '\0');
  std::memcpy(packet.data(), &message.kind, sizeof(message.kind));
  std::memcpy(packet.data() + sizeof(message.kind), &message.number, sizeof(message.number));
  packet += message.text.substr(0, kPacketBytesMax - kHeaderBytes);
  if (::send(descriptor_, packet.data(), packet.size(), MSG_NOSIGNAL) >= 0) return Status();
  return unavailable(fmt::format("the other process is gone: {}", std::strerror(errno)));
}

Result<ChannelMessage> Channel::receive() {
  std::string packet(kPacketBytesMax, '\0');
  const ssize_t got = ::recv(descriptor_, packet.data(), packet.size(), 0);
  if (got < static_cast<ssize_t>(kHeaderBytes)) {
    return unavailable(
        fmt::format("the other process {}", got < 0 ? std::strerror(errno) : "has ended"));
  }
  ChannelMessage message;
  std::memcpy(&message.kind, packet.data(), sizeof(message.kind));
  std::memcpy(&message.number, packet.data() + sizeof(message.kind), sizeof(message.number));
  message.text = packet.substr(kHeaderBytes, static_cast<size_t>(got) - kHeaderBytes);
  return message;
}

Result<ChannelMessage> Channel::ask(const ChannelMessage& order) {
  MEMPOOL_RETURN_IF_ERROR(send(order));
  return receive();
}

Result<ChildProcess> ChildProcess::start(const std::function<void(Channel&)>& body) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return unavailable(fmt::format("no channel to a second process: {}", std::strerror(errno)));
  }
  std::fflush(nullptr);  // what is still buffered would be written twice
  const pid_t process = ::fork();
  if (process < 0) {
    ::close(ends[0]);
    ::close(ends[1]);
    return unavailable(fmt::format("no second process: {}", std::strerror(errno)));
  }
  if (process == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::close(ends[0]);
    {
      Channel channel(ends[1]);
      body(channel);
    }
    ::_exit(0);
  }
  ::close(ends[1]);
  ::setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &kSilenceMax, sizeof(kSilenceMax));
  return ChildProcess(process, ends[0]);
}

ChildProcess::ChildProcess(pid_t process, int descriptor)
    : process_(process), channel_(std::make_unique<Channel>(descriptor)) {}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : process_(std::exchange(other.process_, -1)), channel_(std::move(other.channel_)) {}

ChildProcess::~ChildProcess() {
  if (process_ < 0) return;
  channel_.reset();
  ::kill(process_, SIGKILL);  // it holds nothing that its end could lose, and may wait for us
  while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

double cpu_seconds() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

}  // namespace mempool
