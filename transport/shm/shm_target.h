// SPDX-License-Identifier: Apache-2.0
// Owns the target's half of the shm backend: copies the lists of its peers into its own memory, and
// tells of a slot only what nobody has taken back meanwhile.
#pragma once

#include <memory>
#include <vector>

#include "transport/shm/shm_link.h"

namespace mempool {

/// Thread: confined to the io_context's thread.
class ShmTarget {
 public:
  /// `judge` is asked for every range.
  ShmTarget(ShmShared& shared, TransportEvents& judge);
  ~ShmTarget();

  /// Serve a connection that is open; false, and it is closed, past the limits.
  bool adopt(std::unique_ptr<ShmLink> link);
  /// Close all connections and slots of a peer, without a word.
  void drop(uint64_t peer);
  CallCounts counts() const;

 private:
  class Inbound;
  void lose(const Inbound& inbound, const Status& why);

  ShmShared& shared_;
  TransportEvents& judge_;
  std::vector<std::unique_ptr<Inbound>> inbound_;
  std::vector<RunPair> pairs_;  // scratch: of the list at hand
  CallCounts served_;
};

}  // namespace mempool
