// SPDX-License-Identifier: Apache-2.0
// Owns the checks of the transports that are modules: each is loaded, asked for its devices and
// opened as an agent would.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <string_view>
#include <utility>

#include "agent/agent_config.h"
#include "agent/event_loop.h"
#include "cli/doctor_check.h"
#include "core/check.h"
#include "core/listen_socket.h"
#include "core/random.h"
#include "transport/transport_module.h"

namespace mempool {
namespace {

/// Takes the events of a transport that is opened for a look only. Thread: confined.
class NoEvents final : public TransportEvents {
 public:
  void on_completion(uint64_t, const Status&) override {}
  void on_notified(uint64_t, Slot) override {}
  void on_lost(uint64_t, Direction, const Status&) override {}
  void on_fenced(uint64_t) override {}
  bool admits(uint64_t, Slot, Operation, uint32_t, uint64_t, uint64_t) override { return false; }
};

/// Open the transport on a port of the kernel's choice, and tell whether a NIC moves its bytes.
Result<bool> opens_with_rdma(const TransportModule& module, const AgentOptions& options) {
  EventLoop loop;
  NoEvents events;
  TransportContext context;
  context.io = &loop.io();
  context.loop = &loop.backends();
  context.events = &events;
  context.incarnation = random_word();
  uint16_t port = 0;
  MEMPOOL_RETURN_IF_ERROR(split_address(options.listen, context.bind_host, port));
  context.token = options.token;
  context.options = options_of_transport(options, module.name);
  context.options.erase("port");  // 0, where none is given
  MEMPOOL_ASSIGN_OR_RETURN(const std::unique_ptr<Transport> transport, module.open(context));
  return transport->capabilities().rdma;
}

/// A status names the thing and, behind the last "; ", the mend.
DoctorCheck refused(const std::string& name, const Status& why) {
  const std::string_view message = why.message();
  const size_t cut = message.rfind("; ");
  const bool mended = cut != std::string_view::npos;
  return {name, CheckState::kNo, std::string(message.substr(0, cut)),
          mended ? std::string(message.substr(cut + 2)) : "docs/rdma.md tells what it needs",
          false};
}

void check_module(const std::string& name, const AgentOptions& options, ModuleChecks& checks) {
  const Result<const TransportModule*> module = load_transport_module(name);
  if (!module.ok()) {
    checks.transports.push_back(refused(name, module.status()));
    return;
  }
  const DeviceQuery query = {options_of_transport(options, name), pool_bytes(options)};
  for (DeviceFinding& finding : (*module)->examine(query)) {
    checks.devices.push_back({fmt::format("{} {}", name, finding.subject),
                              finding.usable ? CheckState::kOk : CheckState::kNo,
                              std::move(finding.found), std::move(finding.mend), false});
  }
  const Result<bool> rdma = opens_with_rdma(**module, options);
  if (!rdma.ok()) {
    checks.transports.push_back(refused(name, rdma.status()));
    return;
  }
  checks.transports.push_back(
      {name, CheckState::kOk,
       *rdma ? "opened; a NIC moves the bytes" : "opened; no NIC moves the bytes, so it is no RDMA",
       "", false});
  const bool chosen = std::ranges::count(options.transports, name) > 0;
  if (*rdma && chosen) checks.by_rdma.push_back(name);
}

}  // namespace

ModuleChecks check_modules(const AgentOptions& options) {
  ModuleChecks checks;
  for (const std::string& name : module_names()) check_module(name, options, checks);
  if (std::ranges::count(options.require, "rdma") == 0) return checks;
  const bool any = !checks.by_rdma.empty();
  checks.transports.push_back(
      {"rdma", any ? CheckState::kOk : CheckState::kNo,
       any ? fmt::format("by {}", fmt::join(checks.by_rdma, ", "))
           : "none of agent.transports opens with a NIC",
       any ? ""
           : fmt::format("have one of {} open, as its row tells, and name it in agent.transports",
                         fmt::join(module_names(), ", ")),
       true});
  return checks;
}

}  // namespace mempool
