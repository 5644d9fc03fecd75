// SPDX-License-Identifier: Apache-2.0
// Owns the loops over sendmsg and recvmsg.
#include "perf/bare_stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "core/check.h"
#include "core/listen_socket.h"
#include "core/timed_socket.h"
#include "perf/channel.h"
#include "perf/proof_exchange.h"

namespace mempool {
namespace {

// A receiver that waits for this much is woken less often; more than this was not faster.
constexpr size_t kReceiveBytes = 1 << 20;
constexpr char kPurpose[] = "perf:bare";
constexpr std::chrono::seconds kProofTime{5};

Status failed(const char* what) {
  const bool silent = errno == EAGAIN;
  return unavailable(fmt::format(
      "bare socket: {}: {}", what,
      silent ? fmt::format("nothing moved for {} s", kSilenceMax.count()) : std::strerror(errno)));
}

void set_option(int descriptor, int level, int name, int value) {
  (void)::setsockopt(descriptor, level, name, &value, sizeof(value));
}

void set_buffers(int descriptor, const SocketBuffers& buffers) {
  if (buffers.send > 0) {
    set_option(descriptor, SOL_SOCKET, SO_SNDBUF, static_cast<int>(buffers.send));
  }
  if (buffers.receive > 0) {
    set_option(descriptor, SOL_SOCKET, SO_RCVBUF, static_cast<int>(buffers.receive));
  }
}

/// Make a connected socket a stream's: prompt, and never waiting for ever.
void set_stream_options(int descriptor) {
  constexpr timeval kSilence{kSilenceMax.count(), 0};
  set_option(descriptor, IPPROTO_TCP, TCP_NODELAY, 1);
  (void)::setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &kSilence, sizeof(kSilence));
  (void)::setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &kSilence, sizeof(kSilence));
}

/// Step over `bytes` of pieces from `first` on.
size_t advance(std::vector<iovec>& pieces, size_t first, size_t bytes) {
  while (first < pieces.size() && bytes >= pieces[first].iov_len) bytes -= pieces[first++].iov_len;
  if (bytes > 0) {
    pieces[first].iov_base = static_cast<std::byte*>(pieces[first].iov_base) + bytes;
    pieces[first].iov_len -= bytes;
  }
  return first;
}

/// Give how many pieces one call takes: at most IOV_MAX, and no more once they have `bytes`.
size_t pieces_of_call(const std::vector<iovec>& pieces, size_t first, size_t bytes) {
  const size_t most = std::min<size_t>(pieces.size() - first, IOV_MAX);
  size_t count = 0;
  for (size_t sum = 0; count < most && sum < bytes; ++count) sum += pieces[first + count].iov_len;
  return count;
}

template <typename Move>
Status move_all(std::vector<iovec>& pieces, size_t bytes_a_call, const char* what,
                const Move& move) {
  for (size_t first = 0; first < pieces.size();) {
    msghdr message{};
    message.msg_iov = pieces.data() + first;
    message.msg_iovlen = pieces_of_call(pieces, first, bytes_a_call);
    const ssize_t moved = move(message);
    if (moved == 0) return unavailable("bare socket: the other process closed it");
    if (moved < 0 && errno != EINTR) return failed(what);
    if (moved > 0) first = advance(pieces, first, static_cast<size_t>(moved));
  }
  return Status();
}

}  // namespace

std::vector<iovec> merged(const std::vector<iovec>& pieces) {
  std::vector<iovec> result;
  for (const iovec& piece : pieces) {
    if (!result.empty() &&
        static_cast<std::byte*>(result.back().iov_base) + result.back().iov_len == piece.iov_base) {
      result.back().iov_len += piece.iov_len;
    } else {
      result.push_back(piece);
    }
  }
  return result;
}

Result<BareStream> BareStream::connect(const TransferSite& site, uint16_t port,
                                       const SocketBuffers& buffers) {
  const auto prepare = [&](int socket) { set_buffers(socket, buffers); };
  MEMPOOL_ASSIGN_OR_RETURN(
      Descriptor socket, connect_to(join_address(site.host, port), TimeLeft(kProofTime), prepare));
  set_stream_options(socket.number());
  MEMPOOL_RETURN_IF_ERROR(exchange_proofs(socket.number(), ProofRole::kDialer, site.token, kPurpose,
                                          TimeLeft(kProofTime)));
  return BareStream(std::move(socket));
}

Status BareStream::send(std::vector<iovec> pieces) {
  return move_all(pieces, SIZE_MAX, "sendmsg", [this](const msghdr& message) {
    return ::sendmsg(socket_.number(), &message, MSG_NOSIGNAL);
  });
}

Status BareStream::receive(std::vector<iovec> pieces) {
  return move_all(pieces, kReceiveBytes, "recvmsg", [this](msghdr& message) {
    return ::recvmsg(socket_.number(), &message, MSG_WAITALL);
  });
}

Result<BareListener> BareListener::open(const TransferSite& site, const SocketBuffers& buffers) {
  MEMPOOL_ASSIGN_OR_RETURN(const ListenSocket bound, listen_on(site.host, 0, site.token));
  set_buffers(bound.descriptor, buffers);  // who is accepted inherits them
  return BareListener(Descriptor(bound.descriptor), bound.port, site.token);
}

Result<BareStream> BareListener::accept(int alive) {
  for (;;) {
    pollfd waits[] = {{socket_.number(), POLLIN, 0}, {alive, POLLIN, 0}};
    const int ready = ::poll(waits, std::size(waits),
                             static_cast<int>(std::chrono::milliseconds(kSilenceMax).count()));
    if (ready < 0 && errno != EINTR) return failed("poll");
    if (ready == 0 || waits[1].revents != 0) {
      return unavailable("bare socket: the other process has gone");
    }
    Descriptor socket(::accept4(socket_.number(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket.valid() && errno != EAGAIN && errno != ECONNABORTED) return failed("accept");
    if (!socket.valid()) continue;
    set_stream_options(socket.number());
    const Status proven = exchange_proofs(socket.number(), ProofRole::kAcceptor, token_, kPurpose,
                                          TimeLeft(kProofTime));
    if (proven.ok()) return BareStream(std::move(socket));  // a stranger loses his turn
  }
}

}  // namespace mempool
