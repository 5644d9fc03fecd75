// SPDX-License-Identifier: Apache-2.0
// Owns the yardstick of a stream transport: a bare socket and as few system calls as the list
// takes.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/descriptor.h"
#include "mempool/status.h"
#include "perf/transfer_case.h"

namespace mempool {

/// SO_SNDBUF and SO_RCVBUF; 0 leaves them to the kernel.
struct SocketBuffers {
  uint64_t send = 0;
  uint64_t receive = 0;
};

/// Join what lies one behind the other: a stream does not care where the other side cuts.
std::vector<iovec> merged(const std::vector<iovec>& pieces);

/// One blocking connection; both ends have proven the token. Thread: confined.
class BareStream {
 public:
  /// Errors: kUnavailable; kPermissionDenied for another token.
  static Result<BareStream> connect(const TransferSite& site, uint16_t port,
                                    const SocketBuffers& buffers);
  /// Move all pieces, up to IOV_MAX in a call. Errors: kUnavailable, also when nothing moved for
  /// kSilenceMax.
  Status send(std::vector<iovec> pieces);
  Status receive(std::vector<iovec> pieces);

 private:
  friend class BareListener;
  explicit BareStream(Descriptor socket) : socket_(std::move(socket)) {}
  Descriptor socket_;
};

/// Thread: confined.
class BareListener {
 public:
  /// Errors: those of listen_on().
  static Result<BareListener> open(const TransferSite& site, const SocketBuffers& buffers);
  uint16_t port() const { return port_; }
  /// Wait for the one who proves the token. Another socket of his, `alive`, tells when he has gone:
  /// he has nothing to say on it before. Errors: kUnavailable, also after kSilenceMax.
  Result<BareStream> accept(int alive = -1);

 private:
  BareListener(Descriptor socket, uint16_t port, const std::string& token)
      : socket_(std::move(socket)), port_(port), token_(token) {}
  Descriptor socket_;
  uint16_t port_ = 0;
  std::string token_;
};

}  // namespace mempool
