// SPDX-License-Identifier: Apache-2.0
// Owns one way to one peer over RDMA: calls become work requests on the queue pairs of one or more
// rails, and what a lost rail had under way goes over another.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "transport/verbs/send_lane.h"
#include "transport/verbs/setup_note.h"
#include "transport/verbs/verbs_shared.h"

namespace mempool {

/// Thread: confined to the loop's thread.
class VerbsEndpoint final : public Endpoint, private CompletionHandler, private SetupLinkOwner {
 public:
  /// Told once, when the queue pairs work or none does; then the endpoint may go.
  using ReadyHandler = std::function<void(Status)>;

  VerbsEndpoint(VerbsShared& shared, uint64_t peer);
  ~VerbsEndpoint() override;

  /// Make the queue pairs and offer them to the peer over a proven connection. Errors, and then
  /// `ready` is not called: kResourceExhausted or kUnavailable with the device's reason.
  Status begin(std::shared_ptr<SetupLink> link, ReadyHandler ready);

  Status import_key(uint32_t remote_region, std::span<const std::byte> key) override;
  Status post(const Call& call) override;
  Status notify(Slot slot, uint64_t cookie) override;
  /// What a device has taken goes on to its end; the rest is cancelled.
  void stop(Slot slot) override;
  uint32_t lanes() const override { return static_cast<uint32_t>(lanes_.size()); }
  CallCounts counts() const override { return counts_; }
  std::string route() const override;
  void close() override;

  uint64_t peer() const { return peer_; }
  /// The device of this rail gives no completions any more.
  void device_failed(size_t rail);

 private:
  enum class Kind : uint8_t { kWrite, kRead, kNotice, kProbe };
  enum class RailState : uint8_t { kUp, kLost, kGone };

  struct Piece {
    RegisteredRegion* region = nullptr;
    uint64_t offset = 0;
    uint32_t bytes = 0;
  };
  // A work request, from post() to its end.
  struct Work {
    Kind kind = Kind::kWrite;
    bool stopped = false;  // stranded on a lost rail, and nobody wants it any more
    Slot slot;
    uint64_t cookie = 0;  // of a notice: its place in notices_
    uint64_t bytes = 0;
    const RemoteRegion* remote = nullptr;
    uint64_t remote_offset = 0;
    uint32_t pieces = 0;
    uint32_t lane = 0;   // of a notice: for whose writes it is
    uint32_t round = 0;  // likewise, from its first posting on
    bool numbered = false;
  };
  // One notify(), until it has left by every lane.
  struct Notice {
    uint64_t cookie = 0;
    uint32_t left = 0;
    Status status;
  };
  struct Rail {
    RailState state = RailState::kUp;
    std::unique_ptr<CompletionQueue> completions;
  };

  Status make_rails();
  Status check_open() const;
  Status check_limits(const Call& call) const;
  Status find_ranges(const Call& call, Work& work, std::span<Piece> pieces);
  std::span<Piece> pieces_of(uint32_t index) {
    return std::span(pieces_).subspan(index * pieces_most_, pieces_most_);
  }
  bool has_rail(RailState state) const;
  uint32_t take_work(Kind kind, Slot slot);
  SendLane& lane_for_call();
  SendLane& heir_of(SendLane& lane);
  void enqueue(SendLane& lane, uint32_t index);
  void flush();
  void flush(SendLane& lane);
  size_t make_requests(SendLane& lane);
  void make_request(const SendLane& lane, uint32_t index, ibv_send_wr& request, ibv_sge* pieces);

  void on_work(const ibv_wc& work) override;
  void on_drained() override;
  void finish(SendLane& lane, uint32_t index, Status status);
  void lane_failed(SendLane& lane, const ibv_wc& work);
  void rail_lost(uint32_t rail, const Status& why);
  void rail_gone(uint32_t rail);
  void break_rail(uint32_t rail);
  void end(const Status& why);
  void end_all();
  void fail(const Status& why);
  void probe_ended();

  void tell(const Status& outcome);
  Status on_note(std::span<const std::byte> note) override;
  Status on_accepted(const AcceptedNote& note);
  void on_closed(const Status& why) override;

  VerbsShared& shared_;
  const uint64_t peer_;
  ReadyHandler ready_;               // until it was told
  std::shared_ptr<SetupLink> link_;  // null once closed
  std::vector<Rail> rails_;
  std::vector<SendLane> lanes_;
  std::map<uint32_t, RemoteRegion> remote_;  // by region
  std::vector<Work> works_;
  std::vector<uint32_t> free_works_;
  const size_t pieces_most_;   // of a work
  std::vector<Piece> pieces_;  // pieces_of() each of works_
  std::vector<Notice> notices_;
  std::vector<uint32_t> free_notices_;
  uint32_t notices_most_ = 0;  // under way on one queue pair, as the peer has granted
  uint32_t probes_ = 0;
  CallsInFlight in_flight_ = std::make_shared<uint32_t>(0);
  CallCounts counts_;
  std::unique_ptr<LoopTask> flushing_;
  std::unique_ptr<LoopTask> telling_;  // ready_, how it went
  Status outcome_;
  bool told_ = false;  // or about to be
};

}  // namespace mempool
