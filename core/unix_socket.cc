// SPDX-License-Identifier: Apache-2.0
// Owns the system calls of Unix sockets.
#include "core/unix_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/check.h"

namespace mempool {
namespace {

constexpr mode_t kOwnerOnly = 0600;

Status unix_address(const std::string& path, sockaddr_un& address) {
  address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return invalid_argument(fmt::format("socket path '{}' has {} bytes; give 1 to {}", path,
                                        path.size(), sizeof address.sun_path - 1));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return {};
}

Status failed(std::string_view what, const std::string& path) {
  const std::string message = fmt::format("{} {}: {}", what, path, std::strerror(errno));
  return errno == EACCES || errno == EPERM ? permission_denied(message) : unavailable(message);
}

}  // namespace

Result<UnixListener> UnixListener::open(const std::string& path) {
  sockaddr_un address;
  MEMPOOL_RETURN_IF_ERROR(unix_address(path, address));
  const std::string lock_path = path + ".lock";
  Descriptor lock(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kOwnerOnly));
  if (!lock.valid()) return failed("open", lock_path);
  if (flock(lock.number(), LOCK_EX | LOCK_NB) != 0) {
    return Status(StatusCode::kAlreadyExists,
                  fmt::format("another agent listens on {}; give each its own path", path));
  }
  struct stat found {};
  if (::lstat(path.c_str(), &found) == 0) {
    if (!S_ISSOCK(found.st_mode)) {
      return Status(StatusCode::kAlreadyExists,
                    fmt::format("{} is there and is no socket; give another path", path));
    }
    ::unlink(path.c_str());  // of a dead one: the lock was free
  }
  Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket.valid() ||
      ::bind(socket.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(path.c_str(), kOwnerOnly) != 0 || ::listen(socket.number(), SOMAXCONN) != 0) {
    return failed("listen on", path);
  }
  return UnixListener(path, std::move(lock), std::move(socket));
}

UnixListener::~UnixListener() {
  if (socket_.valid()) ::unlink(path_.c_str());
}

Result<Descriptor> UnixListener::accept() const {
  Descriptor socket(::accept4(socket_.number(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  const bool out_of_room =
      errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
  if (socket.valid() || !out_of_room) return socket;
  return resource_exhausted(fmt::format("accept on {}: {}", path_, std::strerror(errno)));
}

Result<Descriptor> dial_unix(const std::string& path) {
  sockaddr_un address;
  MEMPOOL_RETURN_IF_ERROR(unix_address(path, address));
  Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (socket.valid() && ::connect(socket.number(), reinterpret_cast<const sockaddr*>(&address),
                                  sizeof address) == 0) {
    return socket;
  }
  return failed("no agent answers at", path);
}

Result<SocketPeer> peer_of(int socket) {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
    return unavailable(fmt::format("SO_PEERCRED: {}", std::strerror(errno)));
  }
  return SocketPeer{peer.pid, peer.uid};
}

Result<Descriptor> watch_process(pid_t process) {
  // Not by the wrapper: the header of glibc 2.36 does not declare it for C++.
  Descriptor descriptor(process > 0 ? static_cast<int>(syscall(SYS_pidfd_open, process, 0)) : -1);
  if (descriptor.valid()) return descriptor;
  return unavailable(fmt::format(
      "process {} cannot be watched: {}; an engine and its agent share one namespace of processes",
      process, process > 0 ? std::strerror(errno) : "it is of another namespace"));
}

Result<size_t> send_some(int socket, std::span<const std::byte> bytes,
                         std::span<const int> descriptors) {
  MEMPOOL_CHECK(descriptors.size() <= kDescriptorsAtOnce);
  iovec piece{const_cast<std::byte*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kDescriptorsAtOnce * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(part), descriptors.data(), descriptors.size_bytes());
  }
  for (;;) {
    const ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
    if (sent >= 0) return static_cast<size_t>(sent);
    if (errno == EAGAIN || errno == EWOULDBLOCK) return size_t{0};
    if (errno != EINTR) return unavailable(fmt::format("send: {}", std::strerror(errno)));
  }
}

std::vector<Descriptor> descriptors_of(msghdr& message) {
  std::vector<Descriptor> descriptors;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(part) + i * sizeof(int), sizeof number);
      descriptors.emplace_back(number);
    }
  }
  return descriptors;
}

Result<size_t> receive_some(int socket, std::span<std::byte> bytes,
                            std::vector<Descriptor>& descriptors) {
  iovec place{bytes.data(), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kDescriptorsAtOnce * sizeof(int))];
  msghdr message{};
  message.msg_iov = &place;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return size_t{0};
  if (got < 0) return unavailable(fmt::format("receive: {}", std::strerror(errno)));
  for (Descriptor& each : descriptors_of(message)) descriptors.push_back(std::move(each));
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    return resource_exhausted("descriptors were cut off on their way; raise RLIMIT_NOFILE");
  }
  if (got == 0) return unavailable("the other end has closed the connection");
  return static_cast<size_t>(got);
}

}  // namespace mempool
