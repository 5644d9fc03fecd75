// SPDX-License-Identifier: Apache-2.0
// Owns one way to one peer over shm: writes as lists that the peer copies, reads as copies of ours
// out of the peer's mapping.
#pragma once

#include <array>
#include <memory>
#include <unordered_map>
#include <vector>

#include "transport/shm/shm_link.h"

namespace mempool {

class ShmEndpoint;

/// The endpoints of one transport. Thread: confined.
struct ShmEndpoints {
  std::vector<ShmEndpoint*> open;
  CallCounts ended;  // of those that are gone
};

/// Thread: confined to the io_context's thread.
class ShmEndpoint final : public Endpoint, private ShmLinkOwner {
 public:
  ShmEndpoint(ShmShared& shared, ShmEndpoints& endpoints, std::unique_ptr<ShmLink> link);
  ~ShmEndpoint() override;

  Status import_key(uint32_t remote_region, std::span<const std::byte> key) override;
  Status post(const Call& call) override;
  Status notify(Slot slot, uint64_t cookie) override;
  /// Ends everything of the slot at once; a peer that stands still is not waited for, since it
  /// finds the slot's word raised when it goes on.
  void stop(Slot slot) override;
  uint32_t lanes() const override { return 1; }
  CallCounts counts() const override;
  void close() override;

  uint64_t peer() const { return peer_; }
  /// Tell whether a call under way copies from this region.
  bool uses(uint32_t region) const;

 private:
  // A list or notification sent and not acknowledged.
  struct Pending {
    bool busy = false;
    bool notifies = false;
    Slot slot;
    uint64_t cookie = 0;
    uint32_t sequence = 0;          // tells late acknowledgements of an earlier use apart
    std::vector<uint32_t> regions;  // that the list copies from
  };
  // A slot that has been written to, until its notification came or it was stopped.
  struct Writing {
    Slot slot;
    ShmSourceWords::Taken word;
    uint32_t calls = 0;  // pending
    bool notified = false;
  };

  Status check_room() const;
  Status check_ranges(const Call& call) const;
  Status check_limits(const Call& call) const;
  Result<Writing*> writing(Slot slot);
  Pending& begin(Writing& writing, uint64_t cookie, bool notifies);
  void finish(Pending& pending, Status status);
  void finish_all(const Status& status);
  void raise_all();
  Status write(const Call& call);
  Status read(const Call& call);
  Status list_ranges(const Call& call);
  Status copy_while_open(const ShmWord& word, uint32_t generation);

  Status on_frame(const ShmHeader& header, std::span<const std::byte> body) override;
  void on_closed(const Status& why) override;

  ShmShared& shared_;
  ShmEndpoints& endpoints_;
  const uint64_t peer_;
  std::unique_ptr<ShmLink> link_;                        // null once closed
  std::unordered_map<uint32_t, uint64_t> remote_bytes_;  // size of each region of the peer
  std::array<Pending, kShmCallsInFlight> pending_;
  std::vector<Writing> writing_;
  CallsInFlight in_flight_ = std::make_shared<uint32_t>(0);
  CallCounts counts_;
};

}  // namespace mempool
