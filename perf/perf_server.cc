// SPDX-License-Identifier: Apache-2.0
// Owns the loop over signals and clients.
#include "perf/perf_server.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>

#include <fmt/format.h>

#include "core/check.h"
#include "core/descriptor.h"
#include "core/listen_socket.h"
#include "perf/child_process.h"
#include "perf/service_session.h"

namespace mempool {
namespace {

Status failed(const char* what) {
  return unavailable(fmt::format("{}: {}", what, std::strerror(errno)));
}

/// One line; nobody has to read it.
void say(const std::string& line) {
  std::fputs((line + "\n").c_str(), stdout);
  std::fflush(stdout);
}

std::string describe(const SessionOutcome& outcome) {
  const std::string whom =
      outcome.what.empty() ? outcome.client : fmt::format("{}: {}", outcome.client, outcome.what);
  return outcome.status.ok() ? fmt::format("{}: done", whom)
                             : fmt::format("{}: {}", whom, outcome.status.to_string());
}

/// Signals as something to poll, and the listener. Thread: confined.
class PerfServer {
 public:
  PerfServer(Descriptor listener, const TransferSite& own)
      : listener_(std::move(listener)), own_(own) {}

  /// Hold back the signals that the loop waits for.
  Status open() {
    ::signal(SIGPIPE, SIG_IGN);
    sigset_t signals;
    sigemptyset(&signals);
    for (const int number : {SIGTERM, SIGINT, SIGCHLD}) sigaddset(&signals, number);
    ::sigprocmask(SIG_BLOCK, &signals, nullptr);
    signals_ = Descriptor(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    return signals_.valid() ? Status() : failed("signalfd");
  }

  Status run() {
    for (;;) {
      pollfd waits[] = {{signals_.number(), POLLIN, 0}, {listener_.number(), POLLIN, 0}};
      const nfds_t count = session_ ? 1 : 2;  // who comes meanwhile waits in the backlog
      if (::poll(waits, count, -1) < 0 && errno != EINTR) return failed("poll");
      if (waits[0].revents != 0 && told_to_end()) return Status();
      if (session_ && session_->ended()) session_.reset();
      if (waits[1].revents != 0) MEMPOOL_RETURN_IF_ERROR(accept());
    }
  }

 private:
  bool told_to_end() {
    signalfd_siginfo caught{};
    while (::read(signals_.number(), &caught, sizeof(caught)) == sizeof(caught)) {
      if (caught.ssi_signo != SIGCHLD) return true;
    }
    return false;
  }

  Status accept() {
    Descriptor client(::accept4(listener_.number(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!client.valid()) {
      return errno == EAGAIN || errno == ECONNABORTED ? Status() : failed("accept");
    }
    Result<ChildProcess> session = ChildProcess::start([&] {
      { const Descriptor unused = std::move(listener_); }
      say(describe(serve_session(std::move(client), own_)));
    });
    MEMPOOL_RETURN_IF_ERROR(session.status());
    session_.emplace(std::move(*session));
    return Status();
  }

  Descriptor listener_;
  const TransferSite own_;
  Descriptor signals_;
  std::optional<ChildProcess> session_;
};

}  // namespace

Status run_perf_server(const std::string& listen, const TransferSite& own,
                       const std::function<void(const std::string& address)>& on_ready) {
  std::string host;
  uint16_t port = 0;
  MEMPOOL_RETURN_IF_ERROR(split_address(listen, host, port));
  MEMPOOL_ASSIGN_OR_RETURN(const ListenSocket bound, listen_on(host, port, own.token));
  PerfServer server(Descriptor(bound.descriptor), own);
  MEMPOOL_RETURN_IF_ERROR(server.open());
  on_ready(join_address(bound.host, bound.port));
  return server.run();
}

}  // namespace mempool
