// SPDX-License-Identifier: Apache-2.0
// Owns one process's half of a transport without an agent: a region, a loop and the events.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "core/host_memory.h"
#include "perf/transfer_case.h"
#include "transport/transport.h"

namespace mempool {

/// Every block of a case in one registered region. Thread: confined, but for serve().
class RawSide : public TransportEvents {
 public:
  /// Open the transport on the site's host and register `blocks` blocks. Errors: those of the
  /// transport; kUnsupported for one that cannot read.
  static Result<std::unique_ptr<RawSide>> open(const TransferCase& measured,
                                               const TransferShape& shape, const TransferSite& site,
                                               uint32_t blocks, uint64_t incarnation);
  ~RawSide() override;

  const BlockLayout& layout() const { return segment_.layout; }
  const PlanSegment& segment() const { return segment_; }
  Transport& transport() { return *transport_; }
  std::span<std::byte> piece(uint32_t block, uint32_t piece) const;

  /// Run the loop in a thread of its own from now on.
  void serve();
  /// Run the loop here until one more event has been handled, or none came for kSilenceMax, which
  /// is a failure. Requires: serve() was not called.
  void wait_event();

  /// Calls that completed, and the first failure among them.
  uint64_t completed() const { return completed_; }
  const Status& failure() const { return failure_; }

 private:
  RawSide();
  void on_completion(uint64_t cookie, const Status& status) override;
  void on_notified(uint64_t, Slot) override {}
  void on_lost(uint64_t peer, Direction direction, const Status& why) override;
  void on_fenced(uint64_t) override {}
  bool admits(uint64_t, Slot, Operation, uint32_t, uint64_t, uint64_t) override { return true; }

  std::unique_ptr<boost::asio::io_context> io_;
  std::unique_ptr<Loop> loop_;
  HostMemory memory_;
  PlanSegment segment_;
  std::unique_ptr<Transport> transport_;
  std::thread thread_;
  uint64_t completed_ = 0;
  Status failure_;
};

}  // namespace mempool
