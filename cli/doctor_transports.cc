// SPDX-License-Identifier: Apache-2.0
// Owns the checks of the transports: each tries on a small scale what the transport will do.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netdb.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "cli/doctor_check.h"
#include "core/check.h"
#include "core/host_memory.h"
#include "core/listen_socket.h"
#include "core/random.h"
#include "transport/shm/shm_mapping.h"
#include "transport/transport_registry.h"

namespace mempool {
namespace {

constexpr uint64_t kProbeBytes = 1 << 16;

bool has(const std::vector<std::string>& list, const std::string& name) {
  return std::ranges::find(list, name) != list.end();
}

/// Bind where the agent will, on a port of the kernel's choice, and connect where that is loopback.
Status try_tcp(const AgentOptions& options, std::string& found) {
  std::string host;
  uint16_t port = 0;
  MEMPOOL_RETURN_IF_ERROR(split_address(options.listen, host, port));
  MEMPOOL_ASSIGN_OR_RETURN(const ListenSocket bound, listen_on(host, 0, options.token));
  const Descriptor listening(bound.descriptor);
  found = fmt::format("bound {}", join_address(bound.host, bound.port));
  if (bound.host != "127.0.0.1") return {};
  const Descriptor dialing(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  getsockname(listening.number(), reinterpret_cast<sockaddr*>(&address), &length);
  if (::connect(dialing.number(), reinterpret_cast<sockaddr*>(&address), length) != 0) {
    return unavailable(fmt::format("connect to {}: {}", join_address(bound.host, bound.port),
                                   std::strerror(errno)));
  }
  found += " and connected to it";
  return {};
}

DoctorCheck check_tcp(const AgentOptions& options) {
  DoctorCheck check{"tcp", CheckState::kOk, "", "", false};
  const Status tried = try_tcp(options, check.found);
  if (tried.ok()) return check;
  check.state = CheckState::kNo;
  check.found = tried.message();
  check.mend = tried.code() == StatusCode::kPermissionDenied
                   ? "give agent.token_file, or listen on 127.0.0.1"
                   : "agent.listen at an address of this machine; `ip address` lists them";
  return check;
}

/// Make what the pool is made of, and map it as a peer would.
Status try_memfd() {
  MEMPOOL_ASSIGN_OR_RETURN(const HostMemory memory, HostMemory::create("doctor", kProbeBytes));
  if (ftruncate(memory.descriptor(), 0) == 0) {
    return unsupported("a sealed memfd can be shrunk");
  }
  MEMPOOL_ASSIGN_OR_RETURN(const Descriptor reader, reopen_read_only(memory.descriptor()));
  return ShmMapping::map(reader, kProbeBytes).status();
}

DoctorCheck check_memfd() {
  const Status tried = try_memfd();
  if (tried.ok()) {
    return {"shm memfd", CheckState::kOk, "made, sealed, reopened and mapped read-only", "", true};
  }
  return {"shm memfd", CheckState::kNo, std::string(tried.message()),
          "allow memfd_create and /proc/self/fd (seccomp, mount /proc); the pool needs them", true};
}

DoctorCheck check_populate() {
  DoctorCheck check{"shm populate", CheckState::kUnknown, "", "", false};
  const Result<HostMemory> memory = HostMemory::create("doctor", kProbeBytes);
  if (!memory.ok()) {
    check.found = memory.status().message();
    check.mend = "as of shm memfd";
    return check;
  }
  const bool works = madvise(memory->data(), kProbeBytes, MADV_POPULATE_READ) == 0;
  check.state = works ? CheckState::kOk : CheckState::kNo;
  check.found = fmt::format("MADV_POPULATE_READ: {}", works ? "works" : std::strerror(errno));
  if (!works) check.mend = "Linux 5.14 or newer; until then pages are touched one by one";
  return check;
}

/// Listen on an abstract name, connect to it, and ask the kernel who connected.
Status try_unix(ucred& peer) {
  const std::string name = fmt::format("mempool-doctor-{:016x}", random_word());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name.data(), name.size());  // after a zero: abstract
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  const auto* where = reinterpret_cast<const sockaddr*>(&address);
  const Descriptor listening(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const Descriptor dialing(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!listening.valid() || !dialing.valid() || ::bind(listening.number(), where, length) != 0 ||
      ::listen(listening.number(), 1) != 0 || ::connect(dialing.number(), where, length) != 0) {
    return unavailable(fmt::format("an abstract Unix socket: {}", std::strerror(errno)));
  }
  const Descriptor accepted(::accept4(listening.number(), nullptr, nullptr, SOCK_CLOEXEC));
  socklen_t bytes = sizeof(peer);
  if (getsockopt(accepted.number(), SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0) {
    return unavailable(fmt::format("SO_PEERCRED: {}", std::strerror(errno)));
  }
  return {};
}

void check_unix(std::vector<DoctorCheck>& checks) {
  ucred peer{};
  const Status tried = try_unix(peer);
  if (!tried.ok()) {
    const std::string mend = "allow AF_UNIX (seccomp, RestrictAddressFamilies=), or use tcp";
    checks.push_back({"shm socket", CheckState::kNo, std::string(tried.message()), mend, false});
    checks.push_back({"shm user", CheckState::kUnknown, "asked of a socket", mend, false});
    return;
  }
  checks.push_back({"shm socket", CheckState::kOk,
                    "abstract; reaches agents of the same network namespace", "", false});
  const bool same = peer.uid == geteuid();
  checks.push_back({"shm user", same ? CheckState::kOk : CheckState::kNo,
                    fmt::format("reaches agents of uid {}; others get tcp", geteuid()),
                    same ? ""
                         : fmt::format("the kernel calls this user {}; mend the user "
                                       "namespace's uid map",
                                       peer.uid),
                    false});
}

/// Tell whether every row of a transport that it cannot do without is ok.
bool works(const std::vector<DoctorCheck>& checks, const std::string& transport) {
  bool known = transport == "local";  // it asks nothing of the machine
  for (const DoctorCheck& check : checks) {
    const bool own = check.name == transport || check.name.starts_with(transport + " ");
    if (!own || check.name == "shm populate") continue;
    known = true;
    if (check.state != CheckState::kOk) return false;
  }
  return known;
}

/// Rows of names that no transport has, and of required ones that would never be opened.
void check_names(const AgentOptions& options, std::vector<DoctorCheck>& checks) {
  TransportRegistry registry;
  register_transports(registry);
  const std::vector<std::string> known = registry.names();
  for (const std::string& name : options.transports) {
    if (has(known, name)) continue;
    checks.push_back({name, CheckState::kNo, "no such transport",
                      fmt::format("of agent.transports use {}", fmt::join(known, ", ")), false});
  }
  for (const std::string& name : options.require) {
    if (name == "rdma" || has(options.transports, name)) continue;
    checks.push_back({"agent.require", CheckState::kNo,
                      fmt::format("names {}, agent.transports does not", name),
                      fmt::format("add {} to agent.transports", name), true});
  }
}

}  // namespace

std::vector<DoctorCheck> check_transports(const AgentOptions& options) {
  std::vector<DoctorCheck> checks = {check_tcp(options), check_memfd(), check_populate()};
  check_unix(checks);
  ModuleChecks modules = check_modules(options);
  for (DoctorCheck& check : modules.transports) checks.push_back(std::move(check));
  check_names(options, checks);
  const bool any = std::ranges::any_of(
      options.transports, [&](const std::string& name) { return works(checks, name); });
  const bool last = options.require.empty() && (!any || options.transports.size() == 1);
  for (DoctorCheck& check : checks) {
    if (check.name == "shm populate") continue;
    const std::string transport = check.name.substr(0, check.name.find(' '));
    check.needed = check.needed || has(options.require, transport) ||
                   (last && has(options.transports, transport));
  }
  for (DoctorCheck& check : modules.devices) checks.push_back(std::move(check));
  return checks;
}

}  // namespace mempool
