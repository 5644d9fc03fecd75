// SPDX-License-Identifier: Apache-2.0
// Owns the ground of the conformance suite: two nodes of the transport under test, and the words in
// which its cases are told. What a backend claims must work; what it does not claim must answer
// kUnsupported.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "tests/transport/transport_node.h"

namespace mempool {

/// A transport as the suite runs it.
struct Subject {
  std::string label;
  std::string transport;
  std::map<std::string, std::string> options = {};
  std::map<std::string, std::string> target_options = {};  // where they are not those of the source
  bool proves_token = false;         // its connections are refused without the token
  bool may_stall = false;            // a call waits for the peer to take its bytes
  bool begins_at_post = false;       // stop() finds every posted call begun
  bool begins_in_next_turn = false;  // or, where none is between, that nothing has begun
  bool lands_at_once = false;  // between two turns of the target's loop no call is half landed
  bool flushes = false;        // a notification waits for the peer to answer its writes
  bool peer_may_go = true;     // also amid its writes: else the library ends the target's process
};

inline void PrintTo(const Subject& subject, std::ostream* out) {
  *out << subject.label;
}
std::vector<Subject> subjects();

#define MEMPOOL_CONFORMANCE(Suite)                                    \
  INSTANTIATE_TEST_SUITE_P(All, Suite, testing::ValuesIn(subjects()), \
                           [](const auto& info) { return info.param.label; })

/// Thread: confined.
class Conformance : public testing::TestWithParam<Subject> {
 protected:
  static constexpr uint64_t kSourceId = 0xa1;
  static constexpr uint64_t kTargetId = 0xb2;
  static constexpr Slot kSlot{3, 1};
  static constexpr Slot kOtherSlot{4, 1};

  explicit Conformance(uint64_t region_bytes = uint64_t{1} << 20);

  /// Connect source to target and open both slots.
  void connect();
  /// Tell whether one call may name so many pieces here and ranges there.
  bool takes(Operation operation, uint32_t pieces, uint32_t ranges) const {
    const CallLimits limits = capabilities().limits(operation);
    return limits.local_pieces >= pieces && limits.remote_ranges >= ranges;
  }
  NodeOptions options_of(uint64_t incarnation, uint64_t region_bytes) const;
  const Capabilities& capabilities() const { return source_->capabilities(); }

  /// Fill the node's memory with bytes that depend on place and seed.
  static void fill(TransportNode& node, uint64_t seed);
  /// Post one call and give its status.
  Status post(Operation operation, const std::vector<RunPair>& pairs, Slot slot = kSlot);
  /// Post one call, which must be taken, and wait for its completion.
  Status complete(Operation operation, const std::vector<RunPair>& pairs, Slot slot = kSlot);
  /// Wait until the target has taken all that was sent before this.
  void notify_and_wait(Slot slot);
  bool run_until(const std::function<bool()>& condition) {
    return mempool::run_until({source_.get(), target_.get()}, condition);
  }
  /// Post full calls until none is taken, so that some are under way: where a call can wait for the
  /// peer, until the socket is full too. Gives the cookies.
  std::vector<uint64_t> fill_pipe();
  /// Expect of each of these calls that it completed once, well or with kUnavailable.
  void expect_ended(const std::vector<uint64_t>& cookies) const;
  /// Wait for all of these calls.
  bool run_until_ended(const std::vector<uint64_t>& cookies);
  static RunPair pair(uint64_t local_offset, uint64_t remote_offset, uint64_t bytes) {
    return {TransportNode::kRegion, TransportNode::kRegion, local_offset, remote_offset, bytes};
  }

  std::unique_ptr<TransportNode> source_;
  std::unique_ptr<TransportNode> target_;
  std::unique_ptr<Endpoint> endpoint_;
  uint64_t next_cookie_ = 1;
};

}  // namespace mempool
