// SPDX-License-Identifier: Apache-2.0
// Owns the ucx backend: its memory, connecting and fence. docs/backend_guide.md says how its bytes
// move, docs/decisions/0012-ucx.md why so.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "transport/transport_registry.h"
#include "transport/ucx/ucx_context.h"
#include "transport/ucx/ucx_endpoint.h"
#include "transport/ucx/ucx_target.h"

namespace mempool {

/// Thread: confined to the loop's thread.
class UcxTransport final : public Transport {
 public:
  /// Open UCX, test what it does and listen. Errors: those of UcxOptions::parse, UcxContext::open
  /// and the self-test; kPermissionDenied for a host beyond loopback without a token.
  static Result<std::unique_ptr<Transport>> open(const TransportContext& context);
  ~UcxTransport() override;

  const Capabilities& capabilities() const override { return source_.capabilities; }
  Status register_region(const Region& region) override;
  /// Errors: kNotFound; kResourceExhausted while a call of ours uses it. Of what peers still write
  /// nothing is known here: their slots are closed first.
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
  struct Opening {
    uint64_t peer = 0;
    std::unique_ptr<UcxEndpoint> endpoint;  // null until the peer has been dialed
    ConnectHandler handler;
  };

  UcxTransport(const TransportContext& context, const UcxOptions& options,
               std::unique_ptr<UcxContext> ucx, Capabilities capabilities);
  void begin(uint64_t number, Result<std::shared_ptr<SetupLink>> link);
  void finish(uint64_t number, const Status& status);
  void end_openings(uint64_t peer);

  const UcxOptions options_;
  const std::unique_ptr<UcxContext> ucx_;  // outlives all that is made of it below
  UcxSource source_;
  UcxTarget target_;
  std::map<uint64_t, Opening> opening_;  // by a number of their own
  uint64_t next_opening_ = 0;
  std::vector<Opening> fenced_;  // have yet to be told
  std::unique_ptr<LoopTask> tell_fenced_;
  std::unique_ptr<SetupPort> port_;
};

}  // namespace mempool
