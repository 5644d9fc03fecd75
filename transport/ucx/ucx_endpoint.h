// SPDX-License-Identifier: Apache-2.0
// Owns one way to one peer over UCX: a worker and its endpoint, which turn calls into puts and
// gets; and the set-up connection beside them, whose end is theirs.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "transport/event_queue.h"
#include "transport/loop.h"
#include "transport/ucx/ucx_memory.h"
#include "transport/ucx/ucx_worker.h"

namespace mempool {

class UcxEndpoint;

/// What the endpoints of one transport share with it. Thread: confined.
struct UcxSource {
  Loop& loop;
  ucp_context_h context;
  Capabilities capabilities;
  UcxMemory memory;
  std::shared_ptr<EventQueue> events;   // shared with what it has posted
  std::vector<UcxEndpoint*> endpoints;  // that are open
  CallCounts ended;                     // of endpoints that are gone
};

/// Thread: confined to the loop's thread.
class UcxEndpoint final : public Endpoint, private SetupLinkOwner, private UcxWorkerOwner {
 public:
  /// Hears once, from the event loop, whether the endpoint is open; it may let go of it.
  using OpenHandler = std::function<void(const Status&)>;

  /// Wait on `link` for the address of the worker that the peer makes for us, and connect to it
  /// within `timeout`.
  UcxEndpoint(UcxSource& source, uint64_t peer, std::shared_ptr<SetupLink> link,
              std::chrono::milliseconds timeout, OpenHandler opened);
  ~UcxEndpoint() override;

  Status import_key(uint32_t remote_region, std::span<const std::byte> key) override;
  Status post(const Call& call) override;
  Status notify(Slot slot, uint64_t cookie) override;
  /// Ends notifications that have not been sent; a put or get is begun when it is posted.
  void stop(Slot slot) override;
  uint32_t lanes() const override { return 1; }
  CallCounts counts() const override { return counts_; }
  std::string route() const override { return route_; }
  void close() override;

  uint64_t peer() const { return peer_; }
  /// Tell whether a call under way reads or writes this region.
  bool uses(uint32_t region) const;

 private:
  enum class Step : uint8_t { kIdle, kMoving, kFlushing, kNotifying };
  using Key = std::shared_ptr<std::remove_pointer_t<ucp_rkey_h>>;
  // A call or notification posted and not completed.
  struct Pending {
    UcxEndpoint* endpoint = nullptr;
    Step step = Step::kIdle;
    bool stopped = false;
    Slot slot;
    UcxNotice notice{};
    uint64_t cookie = 0;
    uint32_t region = 0;  // of ours, while moving
    Key key;              // the peer's, while moving: UCX reads it at each fragment
  };
  // A region of the peer.
  struct Remote {
    uint64_t base = 0;
    uint64_t bytes = 0;
    std::vector<std::byte> told;  // the key as the peer gave it
    Key key;
  };
  // What the pairs of a call are together.
  struct Run {
    std::byte* local = nullptr;
    const Remote* remote = nullptr;
    uint64_t remote_offset = 0;
    uint64_t bytes = 0;
  };

  // ---- opening ----
  Status on_note(std::span<const std::byte> note) override;
  Status dial(std::span<const std::byte> address);
  Status greet();
  void finish_opening(Status status);

  // ---- calls ----
  Status check_open() const;
  Status check_room() const;
  Result<Run> run_of(const Call& call) const;
  Pending& begin(Step step, Slot slot, uint64_t cookie);
  ucp_request_param_t parameters(Pending& pending) const;
  void take(Pending& pending, ucs_status_ptr_t answer);
  void ended(Pending& pending, ucs_status_t status);
  void send_notice(Pending& pending);
  void finish(Pending& pending, Status status);

  // ---- the connection ----
  void on_progress() override;
  void on_broken(const Status& why) override { lose(why); }
  void on_closed(const Status& why) override { lose(why); }
  void fail(ucs_status_t status);
  void lose(Status why);
  void tear_down(const Status& why);

  UcxSource& source_;
  const uint64_t peer_;
  const std::shared_ptr<SetupLink> link_;
  std::shared_ptr<UcxWorker> worker_;  // null before the peer's note has come
  OpenHandler opened_;                 // empty once it was called
  bool greeted_ = false;               // the peer's worker has answered
  Status closed_;                      // why the connection is closed, once it is
  ucp_ep_h endpoint_ = nullptr;
  Status failure_;  // what UCX said of the peer, to be acted on outside of its calls
  std::string route_;
  std::unordered_map<uint32_t, Remote> remotes_;
  std::vector<Pending> pending_;
  std::vector<Pending*> idle_;
  CallsInFlight in_flight_ = std::make_shared<uint32_t>(0);
  CallCounts counts_;
};

}  // namespace mempool
