// SPDX-License-Identifier: Apache-2.0
// Owns Unix sockets that have a path: listening, with the taking over of a dead one's place,
// dialing, who is at the other end, and bytes with descriptors beside them.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <sys/socket.h>
#include <sys/types.h>

#include "core/descriptor.h"
#include "mempool/status.h"

namespace mempool {

/// A listening socket, for processes of this user only. The lock beside it (`path`.lock) says that
/// its owner lives. Thread: confined.
class UnixListener {
 public:
  /// Bind and listen, without waiting in accept(). A socket whose owner is gone is replaced.
  /// Errors: kAlreadyExists when another process listens there; kInvalidArgument for a path that is
  /// too long; kUnavailable with the kernel's reason.
  static Result<UnixListener> open(const std::string& path);
  UnixListener(UnixListener&&) = default;
  UnixListener& operator=(UnixListener&&) = delete;
  /// Take the path away.
  ~UnixListener();

  int descriptor() const { return socket_.number(); }
  /// Take the next connection, which does not wait for its bytes either; an invalid descriptor when
  /// nobody waits. Errors: kResourceExhausted, for one when the process is out of descriptors.
  Result<Descriptor> accept() const;

 private:
  UnixListener(std::string path, Descriptor lock, Descriptor socket)
      : path_(std::move(path)), lock_(std::move(lock)), socket_(std::move(socket)) {}

  std::string path_;
  Descriptor lock_;
  Descriptor socket_;
};

/// Connect; the socket waits for its bytes. Errors: kUnavailable, kPermissionDenied,
/// kInvalidArgument.
Result<Descriptor> dial_unix(const std::string& path);

/// The process at the other end, when it connected.
struct SocketPeer {
  pid_t process = 0;
  uid_t user = 0;
};
Result<SocketPeer> peer_of(int socket);
/// Give a descriptor that is readable once the process is gone (a pidfd). Errors: kUnavailable.
Result<Descriptor> watch_process(pid_t process);

/// Send some of `bytes`, without waiting where the socket does not; `descriptors`, at most
/// kDescriptorsAtOnce of them, go with the first. Gives how many bytes went; 0 when none can now.
/// Errors: kUnavailable.
inline constexpr size_t kDescriptorsAtOnce = 64;
Result<size_t> send_some(int socket, std::span<const std::byte> bytes,
                         std::span<const int> descriptors = {});
/// Take the descriptors that came with a received message. Requires: not taken before.
std::vector<Descriptor> descriptors_of(msghdr& message);
/// Receive some bytes, and append the descriptors that came along. Gives 0 when none are here now.
/// Errors: kUnavailable, at the end too.
Result<size_t> receive_some(int socket, std::span<std::byte> bytes,
                            std::vector<Descriptor>& descriptors);

}  // namespace mempool
