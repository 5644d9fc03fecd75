// SPDX-License-Identifier: Apache-2.0
// Owns the decorator that counts what is asked of a transport, in the same words for every backend,
// whatever the backend says of itself.
#pragma once

#include <memory>

#include "transport/forwarding_transport.h"
#include "transport/transport_registry.h"

namespace mempool {

/// Counts calls that were taken: posted operations and notifications as network_calls, their run
/// pairs and bytes. System calls are the backend's own. Thread: as the transport inside.
class CountingTransport final : public ForwardingTransport {
 public:
  /// Give a factory that opens `inner` and counts around it.
  static TransportRegistry::Factory around(TransportRegistry::Factory inner);

  explicit CountingTransport(std::unique_ptr<Transport> inner)
      : ForwardingTransport(std::move(inner)) {}

  CallCounts counts() const override;

 protected:
  std::unique_ptr<Endpoint> wrap(std::unique_ptr<Endpoint> endpoint) override;

 private:
  CallCounts counted_;
};

}  // namespace mempool
