// SPDX-License-Identifier: Apache-2.0
// Owns the backend between agents of one process: a copy at post, nothing on the wire. The smallest
// whole backend, and so the template of docs/backend_guide.md.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "transport/local/local_port.h"
#include "transport/region_table.h"
#include "transport/transport.h"
#include "transport/transport_registry.h"

namespace mempool {

class LocalEndpoint;

/// Thread: confined to the io_context's thread; peers' copies into its regions run on theirs.
class LocalTransport final : public Transport {
 public:
  /// Errors: kAlreadyExists when the process has this incarnation already.
  static Result<std::unique_ptr<Transport>> open(const TransportContext& context);
  ~LocalTransport() override;

  const Capabilities& capabilities() const override;
  Status register_region(const Region& region) override;
  /// Waits for the copies under way, each at most one call long.
  Status deregister_region(uint32_t region) override;
  Result<std::vector<std::byte>> export_key(uint32_t region) const override;
  Result<std::vector<std::byte>> address_for(uint64_t peer) override;
  void connect(uint64_t peer, const std::string& host, std::span<const std::byte> address,
               ConnectHandler handler) override;
  Status open_slot(uint64_t peer, Slot slot) override;
  void close_slot(uint64_t peer, Slot slot) override;
  void fence(uint64_t peer) override;
  CallCounts counts() const override;

 private:
  friend class LocalEndpoint;
  explicit LocalTransport(const TransportContext& context);
  Result<std::unique_ptr<Endpoint>> dial(uint64_t peer, std::span<const std::byte> address);

  boost::asio::io_context& io_;
  std::shared_ptr<LocalPort> port_;  // shared with peers, which may outlive this
  RegionTable regions_;
  std::vector<LocalEndpoint*> endpoints_;
  CallCounts ended_;  // of endpoints that are gone
  bool listed_ = false;
};

}  // namespace mempool
