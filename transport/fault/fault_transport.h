// SPDX-License-Identifier: Apache-2.0
// Owns the decorator that makes a transport misbehave by a seeded plan, for tests of the layers
// above.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/random.h"
#include "transport/event_queue.h"
#include "transport/forwarding_transport.h"
#include "transport/region_table.h"
#include "transport/transport_registry.h"

namespace mempool {

/// What goes wrong, and how often. Chances are drawn for each write, in the order of the posts, so
/// equal seeds and posts give equal faults.
struct FaultPlan {
  uint64_t seed = 1;
  uint64_t fail_every = 0;  // every n-th call ends kUnavailable and moves nothing; 0: none
  double delay = 0;         // chance that a call, and all behind it, waits
  std::chrono::milliseconds delay_most{1};
  double corrupt = 0;            // chance that one bit of a write arrives flipped
  double truncate = 0;           // chance that a write's last byte never arrives
  double land_late = 0;          // chance that a write arrives once more after its slot's stop()
  double drop_notification = 0;  // chance that a notification arrives and is not told
};

/// Wraps a transport from both sides: its calls, and the events it gives. Thread: confined, as the
/// transport inside.
class FaultTransport final : public ForwardingTransport, private TransportEvents {
 public:
  /// Give a factory that opens `inner` and lets it fail by `plan`.
  static TransportRegistry::Factory around(TransportRegistry::Factory inner, FaultPlan plan);

  ~FaultTransport() override;
  Status register_region(const Region& region) override;
  Status deregister_region(uint32_t region) override;

 protected:
  std::unique_ptr<Endpoint> wrap(std::unique_ptr<Endpoint> endpoint) override;

 private:
  friend class FaultEndpoint;
  FaultTransport(const TransportContext& context, FaultPlan plan);
  Status open_inner(const TransportRegistry::Factory& factory, TransportContext context);

  void on_completion(uint64_t cookie, const Status& status) override;
  void on_notified(uint64_t peer, Slot slot) override;
  void on_lost(uint64_t peer, Direction direction, const Status& why) override {
    events_.on_lost(peer, direction, why);
  }
  void on_fenced(uint64_t peer) override { events_.on_fenced(peer); }
  bool admits(uint64_t peer, Slot slot, Operation operation, uint32_t region, uint64_t offset,
              uint64_t bytes) override {
    return events_.admits(peer, slot, operation, region, offset, bytes);
  }

  /// Take the bounce buffer for a copy of a write's bytes. False while another call has it.
  bool fill_bounce(const Call& call, std::vector<RunPair>& pairs);

  boost::asio::io_context& io_;
  TransportEvents& events_;
  const FaultPlan plan_;
  Random random_;
  Random notification_random_;  // apart, for its draws come when the network likes
  RegionTable regions_;
  std::shared_ptr<EventQueue> queue_;  // shared with what it has posted
  std::vector<std::byte> bounce_;      // where bytes are changed; the source stays as it is
  bool bounce_taken_ = false;
  uint64_t bounce_cookie_ = 0;
  uint64_t posted_ = 0;
};

}  // namespace mempool
