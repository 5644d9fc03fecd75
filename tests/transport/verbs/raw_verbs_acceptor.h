// SPDX-License-Identifier: Apache-2.0
// Owns the accepting end of a verbs connection whose every note the test sends itself.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/transport/transport_node.h"
#include "transport/loop.h"
#include "transport/verbs/queue_pair.h"
#include "transport/verbs/setup_note.h"

namespace mempool {

/// Its memory is the region TransportNode::kRegion. Thread: confined.
class RawVerbsAcceptor final : private SetupLinkOwner {
 public:
  /// `devices` as in verbs.devices.
  RawVerbsAcceptor(const std::string& devices, uint64_t incarnation, uint64_t region_bytes);
  ~RawVerbsAcceptor() override;

  /// Have the source begin to connect. The handler's outcome is in `connected` and `endpoint`.
  void dialed_by(TransportNode& source);
  /// Give queue pairs that are connected to those of the source's offer, a rail for each.
  std::vector<RailAddress> accept();
  void send(const SetupNote& note) { link_->send(encode_note(note)); }
  /// Break this end of a rail.
  void break_rail(size_t rail) { queues_.at(rail).destroy(); }
  std::vector<std::byte> key() const;
  bool run_until(const std::function<bool()>& condition);
  /// Tell whether the source has sent that note.
  template <typename Note>
  bool has() const {
    for (const SetupNote& note : notes) {
      if (std::holds_alternative<Note>(note)) return true;
    }
    return false;
  }

  std::vector<std::byte> memory;
  std::vector<SetupNote> notes;  // from the source, in order
  std::optional<Status> connected;
  std::unique_ptr<Endpoint> endpoint;  // the source's

 private:
  struct Running;

  Status on_note(std::span<const std::byte> note) override;
  void on_closed(const Status&) override {}

  const uint64_t incarnation_;
  std::unique_ptr<Running> running_;
  TransportNode* source_ = nullptr;
  VerbsOptions options_;
  std::vector<std::unique_ptr<VerbsDevice>> devices_;
  std::vector<CompletionHandle> completions_;  // one a device, as the next two
  std::vector<MemoryHandle> memories_;
  std::vector<QueuePair> queues_;
  std::unique_ptr<SetupPort> port_;
  std::shared_ptr<SetupLink> link_;
};

}  // namespace mempool
