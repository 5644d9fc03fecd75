// SPDX-License-Identifier: Apache-2.0
// Owns the target's half of the verbs backend: the queue pairs by which peers reach our memory,
// their notifications, and their end.
#pragma once

#include <memory>
#include <vector>

#include "transport/verbs/receive_side.h"
#include "transport/verbs/setup_note.h"
#include "transport/verbs/verbs_shared.h"

namespace mempool {

/// Thread: confined to the loop's thread.
class VerbsTarget {
 public:
  explicit VerbsTarget(VerbsShared& shared);
  ~VerbsTarget();

  /// Post the receives. Errors: those of ReceiveSide::create().
  Status open();
  /// Take a proven connection. False: the peer has as many as one may have.
  bool adopt(std::shared_ptr<SetupLink> link, uint64_t peer);
  /// Break all queue pairs of a peer; nothing of it lands any more when this returns.
  void drop(uint64_t peer);
  CallCounts counts() const;

 private:
  class Inbound;

  void remove(const Inbound* inbound);

  VerbsShared& shared_;
  std::vector<std::unique_ptr<ReceiveSide>> sides_;  // one a device
  std::vector<std::unique_ptr<Inbound>> inbound_;
};

}  // namespace mempool
