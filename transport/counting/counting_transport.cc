// SPDX-License-Identifier: Apache-2.0
// Owns the counting of calls that a transport has taken.
#include "transport/counting/counting_transport.h"

namespace mempool {
namespace {

/// Adds to its own counts and to its transport's. Thread: as the endpoint inside.
class CountingEndpoint final : public ForwardingEndpoint {
 public:
  CountingEndpoint(std::unique_ptr<Endpoint> inner, CallCounts& all)
      : ForwardingEndpoint(std::move(inner)), all_(all) {}

  Status post(const Call& call) override {
    Status status = inner().post(call);
    if (!status.ok()) return status;
    CallCounts taken;
    taken.network_calls = 1;
    taken.run_pairs = call.pairs.size();
    for (const RunPair& pair : call.pairs) taken.bytes += pair.bytes;
    add(taken);
    return status;
  }

  Status notify(Slot slot, uint64_t cookie) override {
    Status status = inner().notify(slot, cookie);
    CallCounts taken;
    taken.network_calls = lanes();
    if (status.ok()) add(taken);
    return status;
  }

  CallCounts counts() const override {
    CallCounts counts = counted_;
    counts.system_calls = inner().counts().system_calls;
    return counts;
  }

 private:
  void add(const CallCounts& taken) {
    counted_ += taken;
    all_ += taken;
  }

  CallCounts& all_;
  CallCounts counted_;
};

}  // namespace

TransportRegistry::Factory CountingTransport::around(TransportRegistry::Factory inner) {
  return [inner = std::move(inner)](
             const TransportContext& context) -> Result<std::unique_ptr<Transport>> {
    Result<std::unique_ptr<Transport>> opened = inner(context);
    if (!opened.ok()) return opened;
    return std::unique_ptr<Transport>(
        std::make_unique<CountingTransport>(std::move(opened).value()));
  };
}

std::unique_ptr<Endpoint> CountingTransport::wrap(std::unique_ptr<Endpoint> endpoint) {
  return std::make_unique<CountingEndpoint>(std::move(endpoint), counted_);
}

CallCounts CountingTransport::counts() const {
  CallCounts counts = counted_;
  counts.system_calls = inner().counts().system_calls;
  return counts;
}

}  // namespace mempool
