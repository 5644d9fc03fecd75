// SPDX-License-Identifier: Apache-2.0
// Owns a peer of the verbs transport that proves the token and then does what it likes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/transport/transport_node.h"
#include "transport/loop.h"
#include "transport/verbs/immediate.h"
#include "transport/verbs/queue_pair.h"
#include "transport/verbs/setup_note.h"

namespace mempool {

/// The devices that MEMPOOL_RDMA_DEVICES names: of the source and of the target.
struct TestDevices {
  std::string source;
  std::string target;
};
std::optional<TestDevices> test_devices();
/// Ends the case as skipped where there are none.
#define MEMPOOL_NEEDS_RDMA() \
  if (!test_devices()) GTEST_SKIP() << "no RDMA devices; run it by scripts/rdma-guest.sh"

/// A node over verbs on one device.
NodeOptions verbs_node(const std::string& device, uint64_t incarnation,
                       std::map<std::string, std::string> options = {});

/// Thread: confined.
class RawVerbsPeer final : private SetupLinkOwner {
 public:
  RawVerbsPeer(const std::string& device, uint64_t incarnation);
  ~RawVerbsPeer() override;

  /// Dial the target and prove the token.
  void dial(TransportNode& target);
  void send(std::span<const std::byte> note) { link_->send(note); }
  /// Offer a queue pair of this device, with `port` as its address, and connect it to the target's.
  void connect(TransportNode& target);
  ConnectNote offer();
  /// Post one notification, signalled.
  void notify(Immediate immediate);
  /// Wait for the end of one of them while only this side runs, or the target does too.
  ibv_wc_status ended(TransportNode* target);
  bool run_until(TransportNode& target, const std::function<bool()>& condition);

  std::vector<SetupNote> notes;
  std::optional<Status> closed;

 private:
  struct Running;

  Status on_note(std::span<const std::byte> note) override;
  void on_closed(const Status& why) override { closed = why; }

  std::unique_ptr<Running> running_;
  VerbsOptions options_;
  std::unique_ptr<VerbsDevice> device_;
  CompletionHandle completions_;
  QueuePair queue_;
  std::unique_ptr<SetupPort> port_;
  std::shared_ptr<SetupLink> link_;
};

}  // namespace mempool
