// SPDX-License-Identifier: Apache-2.0
// Owns the verbs backend: its devices, its regions, and the connecting. docs/rdma.md is its manual.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "transport/transport_module.h"
#include "transport/verbs/verbs_endpoint.h"
#include "transport/verbs/verbs_target.h"

namespace mempool {

/// Thread: confined to the loop's thread.
class VerbsTransport final : public Transport {
 public:
  /// Open the devices, test them and listen for set-up connections. Errors: kInvalidArgument for a
  /// bad option; kUnavailable where no device is usable, with the reason of each; those of
  /// Loop::open_setup_port().
  static Result<std::unique_ptr<Transport>> open(const TransportContext& context);
  ~VerbsTransport() override;

  const Capabilities& capabilities() const override { return shared_->capabilities; }
  Status register_region(const Region& region) override;
  Status deregister_region(uint32_t region) override { return shared_->memory.remove(region); }
  Result<std::vector<std::byte>> export_key(uint32_t region) const override;
  Result<std::vector<std::byte>> address_for(uint64_t peer) override;
  void connect(uint64_t peer, const std::string& host, std::span<const std::byte> address,
               ConnectHandler handler) override;
  Status open_slot(uint64_t peer, Slot slot) override;
  void close_slot(uint64_t peer, Slot slot) override;
  void fence(uint64_t peer) override;
  CallCounts counts() const override;

 private:
  explicit VerbsTransport(std::unique_ptr<VerbsShared> shared);
  void begin(uint64_t peer, std::shared_ptr<SetupLink> link, ConnectHandler handler);

  std::unique_ptr<VerbsShared> shared_;
  VerbsTarget target_;
  std::vector<std::unique_ptr<VerbsEndpoint>> dialing_;
  std::unique_ptr<SetupPort> port_;
};

}  // namespace mempool
