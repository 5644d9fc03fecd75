// SPDX-License-Identifier: Apache-2.0
// Owns one way of the local backend: checks a call against both ends' regions, then copies.
#pragma once

#include <memory>
#include <unordered_map>

#include "transport/local/local_port.h"
#include "transport/local/local_transport.h"

namespace mempool {

/// Thread: confined to the source's io_context thread.
class LocalEndpoint final : public Endpoint {
 public:
  LocalEndpoint(LocalTransport& transport, std::shared_ptr<LocalDoor> door);
  ~LocalEndpoint() override;

  Status import_key(uint32_t remote_region, std::span<const std::byte> key) override;
  Status post(const Call& call) override;
  Status notify(Slot slot, uint64_t cookie) override;
  void stop(Slot) override {}  // a call has ended before post() returns
  uint32_t lanes() const override { return 1; }
  CallCounts counts() const override { return counts_; }
  void close() override;

  uint64_t peer() const { return door_->target->incarnation(); }
  /// Post nothing more, and say so to nobody.
  void shut() { closed_ = true; }

 private:
  Status check_open() const;
  Status check(const Call& call) const;
  Status copy(const Call& call);
  Status copy_pair(const Call& call, const RunPair& pair);

  LocalTransport& transport_;
  std::shared_ptr<LocalDoor> door_;  // shared with the target, which shuts it
  std::unordered_map<uint32_t, std::shared_ptr<LocalRegion>> remote_;  // shared with the target
  CallsInFlight in_flight_ = std::make_shared<uint32_t>(0);
  CallCounts counts_;
  bool closed_ = false;
};

}  // namespace mempool
