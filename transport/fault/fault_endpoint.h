// SPDX-License-Identifier: Apache-2.0
// Owns one endpoint's faults: which call fails, waits, arrives changed or arrives again.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "transport/fault/fault_transport.h"

namespace mempool {

/// Thread: confined, as its transport.
class FaultEndpoint final : public ForwardingEndpoint {
 public:
  /// Of a call that arrives late; nobody posted it, so nobody is told of its end.
  static constexpr uint64_t kLateCookie = UINT64_MAX;

  FaultEndpoint(std::unique_ptr<Endpoint> inner, FaultTransport& transport);
  ~FaultEndpoint() override;

  Status post(const Call& call) override;
  Status notify(Slot slot, uint64_t cookie) override;
  void stop(Slot slot) override;
  void close() override;

 private:
  // A call that waits, and what was posted behind it.
  struct Held {
    bool notification = false;
    Operation operation = Operation::kWrite;
    Slot slot;
    uint64_t cookie = 0;
    std::vector<RunPair> pairs;
  };
  struct Alive {};

  Status check_room() const;
  Status pass(const Call& call);
  Status pass_corrupted(const Call& call);
  void keep_for_later(const Call& call);
  void hold(Held held);
  void wait();
  void release();
  void end(uint64_t cookie, Status status);
  void end_held(const Status& status);

  FaultTransport& transport_;
  boost::asio::steady_timer timer_;
  std::deque<Held> held_;
  std::optional<Held> late_;                                 // its bytes lie in the bounce buffer
  bool late_due_ = false;                                    // its slot was stopped
  CallsInFlight in_flight_ = std::make_shared<uint32_t>(0);  // that the inner endpoint knows not
  bool closed_ = false;
  // Shared with nobody: timer handlers hold it weakly and look whether this is still here.
  std::shared_ptr<Alive> alive_ = std::make_shared<Alive>();
};

}  // namespace mempool
