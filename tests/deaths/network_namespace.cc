// SPDX-License-Identifier: Apache-2.0
// Owns the system calls and the nft rules of a network of a test's own.
#include "tests/deaths/network_namespace.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

#include "core/check.h"

namespace mempool::testing {
namespace {

/// Run a command without a word of its own; the shell looks it up.
Status run(const std::string& command) {
  const int code = std::system(command.c_str());
  if (code == 0) return {};
  return unavailable(
      fmt::format("`{}` ended with {}; install nftables and iproute2", command, code));
}

}  // namespace

Result<std::unique_ptr<NetworkNamespace>> NetworkNamespace::enter() {
  const int before = ::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  if (before < 0 || ::unshare(CLONE_NEWNET) != 0) {
    const int error = errno;
    if (before >= 0) ::close(before);
    return permission_denied(fmt::format(
        "a network namespace of its own: {}; run the tests as root (CAP_SYS_ADMIN, CAP_NET_ADMIN)",
        std::strerror(error)));
  }
  std::unique_ptr<NetworkNamespace> entered(new NetworkNamespace(before));
  MEMPOOL_RETURN_IF_ERROR(run("ip link set lo up"));
  MEMPOOL_RETURN_IF_ERROR(run("nft add table inet cut"));
  MEMPOOL_RETURN_IF_ERROR(
      run("nft 'add chain inet cut input { type filter hook input priority 0; }'"));
  return entered;
}

NetworkNamespace::~NetworkNamespace() {
  if (::setns(before_, CLONE_NEWNET) != 0) std::abort();  // later tests would run in here
  ::close(before_);
}

Status NetworkNamespace::cut(const std::string& from, const std::string& to,
                             const std::string& how) {
  const std::string verdict = how == "reset" ? "meta l4proto tcp reject with tcp reset" : "drop";
  return run(
      fmt::format("nft add rule inet cut input ip saddr {} ip daddr {} {}", from, to, verdict));
}

Status NetworkNamespace::heal() {
  return run("nft flush chain inet cut input");
}

}  // namespace mempool::testing
