// SPDX-License-Identifier: Apache-2.0
// Owns the yardstick of a stream transport: a bare socket and as few system calls as the list
// takes.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <vector>

#include "mempool/status.h"

namespace mempool {

/// SO_SNDBUF and SO_RCVBUF; 0 leaves them to the kernel.
struct SocketBuffers {
  uint64_t send = 0;
  uint64_t receive = 0;
};

/// Join what lies one behind the other: a stream does not care where the other side cuts.
std::vector<iovec> merged(const std::vector<iovec>& pieces);

/// One blocking connection over loopback. Thread: confined.
class BareStream {
 public:
  static Result<BareStream> connect(uint16_t port, const SocketBuffers& buffers);
  BareStream(BareStream&& other) noexcept;
  BareStream& operator=(BareStream&&) = delete;
  ~BareStream();

  /// Move all pieces, up to IOV_MAX in a call. Errors: kUnavailable.
  Status send(std::vector<iovec> pieces);
  Status receive(std::vector<iovec> pieces);

 private:
  friend class BareListener;
  explicit BareStream(int descriptor) : descriptor_(descriptor) {}
  int descriptor_ = -1;
};

/// Thread: confined.
class BareListener {
 public:
  static Result<BareListener> open(const SocketBuffers& buffers);
  BareListener(BareListener&& other) noexcept;
  BareListener& operator=(BareListener&&) = delete;
  ~BareListener();

  uint16_t port() const { return port_; }
  Result<BareStream> accept();

 private:
  BareListener(int descriptor, uint16_t port) : descriptor_(descriptor), port_(port) {}
  int descriptor_ = -1;
  uint16_t port_ = 0;
};

}  // namespace mempool
