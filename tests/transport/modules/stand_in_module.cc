// SPDX-License-Identifier: Apache-2.0
// Owns a module that stands in for a vendor's on machines without its devices: it moves bytes as
// the local backend does. The option `devices` = "none" makes it a machine that has none.
#include <memory>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "core/check.h"
#include "core/log.h"
#include "transport/forwarding_transport.h"
#include "transport/local/local_transport.h"
#include "transport/transport_module.h"

namespace mempool {
namespace {

/// Thread: as the local transport inside.
class StandIn final : public ForwardingTransport {
 public:
  explicit StandIn(std::unique_ptr<Transport> local) : ForwardingTransport(std::move(local)) {
    capabilities_ = inner().capabilities();
    capabilities_.name = STAND_IN_NAME;
    capabilities_.rdma = STAND_IN_RDMA;
  }
  const Capabilities& capabilities() const override { return capabilities_; }

 private:
  std::unique_ptr<Endpoint> wrap(std::unique_ptr<Endpoint> endpoint) override { return endpoint; }

  Capabilities capabilities_;
};

bool has_devices(const std::map<std::string, std::string>& options) {
  const auto devices = options.find("devices");
  return devices == options.end() || devices->second != "none";
}

Result<std::unique_ptr<Transport>> open(const TransportContext& context) {
  if (!has_devices(context.options)) return unavailable("no device; plug one in");
  MEMPOOL_ASSIGN_OR_RETURN(std::unique_ptr<Transport> local, LocalTransport::open(context));
  return std::unique_ptr<Transport>(std::make_unique<StandIn>(std::move(local)));
}

std::vector<DeviceFinding> examine(const DeviceQuery& query) {
  if (!has_devices(query.options)) return {{"devices", false, "there is none", "plug one in"}};
  return {{"card0 port 1", true, fmt::format("up; {} to register", query.pool_bytes), ""},
          {"card0 port 2", false, "down", "plug in its cable"}};
}

}  // namespace
}  // namespace mempool

extern "C" [[gnu::visibility("default")]] const mempool::TransportModule*
mempool_transport_module() {
  static const mempool::TransportModule module = {
      mempool::kTransportModuleMagic,
      mempool::transport_module_version(),
      STAND_IN_NAME,
      [](const mempool::LogSettings& log) { mempool::configure_log(log.level, log.format); },
      &mempool::open,
      &mempool::examine};
  return &module;
}
