// SPDX-License-Identifier: Apache-2.0
// Owns the backend between processes of one user on one host: its listener, the connecting and
// accepting, and its regions. docs/backend_guide.md says how its bytes move.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "transport/shm/shm_endpoint.h"
#include "transport/shm/shm_target.h"
#include "transport/transport_registry.h"

namespace mempool {

/// Thread: confined to the io_context's thread.
class ShmTransport final : public Transport {
 public:
  /// Listen. Errors: kInvalidArgument for a bad option; kUnavailable when the socket is refused.
  static Result<std::unique_ptr<Transport>> open(const TransportContext& context);
  ~ShmTransport() override;

  const Capabilities& capabilities() const override { return shm_capabilities(); }
  /// A region with a descriptor can be read and sent from; one without can only be written to.
  Status register_region(const Region& region) override;
  /// Errors: kNotFound; kResourceExhausted while a call under way uses it.
  Status deregister_region(uint32_t region) override;
  Result<std::vector<std::byte>> export_key(uint32_t region) const override;
  Result<std::vector<std::byte>> address_for(uint64_t peer) override;
  void connect(uint64_t peer, const std::string& host, std::span<const std::byte> address,
               ConnectHandler handler) override;
  Status open_slot(uint64_t peer, Slot slot) override { return shared_.slots.open(peer, slot); }
  void close_slot(uint64_t peer, Slot slot) override { shared_.slots.close(peer, slot); }
  void fence(uint64_t peer) override;
  CallCounts counts() const override;

 private:
  class Dialing;
  class Arriving;
  struct Alive {};

  ShmTransport(const TransportContext& context, const ShmOptions& options, ShmSourceWords words);
  void dial(uint64_t peer, std::span<const std::byte> address, ConnectHandler handler);
  void arrive(Descriptor socket);

  ShmShared shared_;
  const uint64_t name_word_;  // random, part of the socket's name
  ShmTarget target_;
  ShmEndpoints endpoints_;
  std::vector<std::unique_ptr<Dialing>> dialing_;
  std::vector<std::unique_ptr<Arriving>> arriving_;
  std::shared_ptr<ShmListener> listener_;  // shared with handlers that wait
  // Shared with nobody: what was posted holds it weakly and looks whether this is still here.
  std::shared_ptr<Alive> alive_ = std::make_shared<Alive>();
};

}  // namespace mempool
