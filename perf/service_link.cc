// SPDX-License-Identifier: Apache-2.0
// Owns the words for a service that does not answer.
#include "perf/service_link.h"

#include <netdb.h>
#include <sys/socket.h>

#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "core/check.h"
#include "core/timed_socket.h"
#include "perf/proof_exchange.h"

namespace mempool {
namespace {

constexpr std::chrono::seconds kConnectTime{5};
constexpr std::chrono::seconds kTurnTime{30};

using NameOf = int(int, sockaddr*, socklen_t*);

Result<std::string> host_of(int descriptor, NameOf* name_of) {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  auto* const named = reinterpret_cast<sockaddr*>(&address);
  char host[NI_MAXHOST];
  if (name_of(descriptor, named, &length) != 0 ||
      ::getnameinfo(named, length, host, sizeof(host), nullptr, 0, NI_NUMERICHOST) != 0) {
    return unavailable("the connection is gone");
  }
  return std::string(host);
}

/// Say what a failed exchange of proofs means.
Status explain(const Status& status, const std::string& address) {
  switch (status.code()) {
    case StatusCode::kPermissionDenied:
    case StatusCode::kUnsupported:
      return status.with_context(address);
    case StatusCode::kInvalidArgument:
      return unavailable(fmt::format("{} is no mempool perf serve: {}", address, status.message()));
    default:
      return unavailable(fmt::format(
          "{} is no mempool perf serve, or has been busy with another client for {} s: {}", address,
          kTurnTime.count(), status.message()));
  }
}

}  // namespace

Result<SocketHosts> hosts_of(int descriptor) {
  MEMPOOL_ASSIGN_OR_RETURN(std::string near, host_of(descriptor, &::getsockname));
  MEMPOOL_ASSIGN_OR_RETURN(std::string far, host_of(descriptor, &::getpeername));
  return SocketHosts{std::move(near), std::move(far)};
}

Result<ServiceLink> dial_service(const std::string& address, const TransferSite& own) {
  MEMPOOL_ASSIGN_OR_RETURN(Descriptor socket, connect_to(address, TimeLeft(kConnectTime)));
  const Status proven = exchange_proofs(socket.number(), ProofRole::kDialer, own.token,
                                        kServicePurpose, TimeLeft(kTurnTime));
  if (!proven.ok()) return explain(proven, address);
  MEMPOOL_ASSIGN_OR_RETURN(SocketHosts hosts, hosts_of(socket.number()));
  return ServiceLink{Channel(std::move(socket)),
                     {std::move(hosts.far), own.token, own.transport_options}};
}

}  // namespace mempool
