// SPDX-License-Identifier: Apache-2.0
// Owns an agent's parts and its one thread: the state machines' driver over Asio.
//
// Lock order: mutex_ is the one short lock over pool, index and machines; nothing blocks, hashes or
// sends under it. A Transfer::State's mutex comes before it, so no call is ended under it. Actions
// the machines ask for are carried out on the agent's thread, unlocked.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/admin_server.h"
#include "agent/arrival_queue.h"
#include "agent/attach_server.h"
#include "agent/control_plane.h"
#include "agent/data_mover.h"
#include "agent/engine_calls.h"
#include "agent/event_loop.h"
#include "agent/liveness.h"
#include "agent/source_machine.h"
#include "agent/target_machine.h"
#include "agent/transfer.h"
#include "core/block_pool.h"
#include "core/clock.h"
#include "core/fork_mark.h"
#include "core/metrics.h"
#include "index/local_index.h"
#include "mempool/agent.h"
#include "transport/transport.h"
#include "transport/transport_registry.h"

namespace mempool {

/// Thread: confined to the agent's thread, but for start(), the destructor, request_pump() and what
/// mutex_ or idle_mutex_ guard.
class Agent::Impl : public ControlEvents, public TransferOwner {
 public:
  explicit Impl(const AgentOptions& options);
  ~Impl() override;

  Status start();
  void stop();

  /// Have the agent's thread carry out what the machines have asked for. Thread: safe.
  void request_pump();
  AgentStatus status() const;
  Status drain(std::chrono::milliseconds timeout);
  Status grow(uint32_t blocks);
  Status shrink(std::chrono::milliseconds timeout);

  // ---- memory of engines, agent_adopt.cc ----
  /// One shard of what an engine lends, mapped here.
  struct Lent {
    uint32_t shard = 0;
    AdoptedMemory shape;
    SegmentMemory memory;
  };
  /// Take in what an engine lends, all shards or one rank's. Requires: the agent's thread.
  Status adopt(SessionId engine, const std::string& name, const AdoptOptions& options,
               std::vector<Lent> lent);
  /// Requires: mutex_ is held.
  Result<std::vector<BlockAddress>> claim(SessionId engine, const std::string& name,
                                          std::span<const uint32_t> blocks);
  /// `done` follows, perhaps at once. Requires: the agent's thread.
  void withdraw(const std::string& name, TimePoint deadline, std::function<void(Status)> done);
  /// The same from the engine's own thread, in this process.
  Status adopt_embedded(const std::string& name, const AdoptOptions& options);
  Status withdraw_embedded(const std::string& name, std::chrono::milliseconds timeout);
  /// Let go of what was lent by an engine that is gone. Requires: the agent's thread.
  void withdraw_all(SessionId engine);
  std::string metrics_text();
  TimePoint now() const { return clock_.now(); }
  TimePoint deadline_of(const TransferOptions& options, TimePoint now) const {
    const auto wait = options.deadline.count() > 0 ? options.deadline : options_.default_deadline;
    return now + std::min(wait, kWaitMax);
  }
  /// Pass a status on, counting it when it is a stale address.
  Status noted(Status status);
  /// Take free blocks for an engine, evicting unpinned ones when needed. Requires: mutex_ is held.
  Status take_blocks(SessionId engine, size_t count, std::vector<BlockAddress>& out);
  /// Remember which blocks of a call are published, with their sums. Requires: mutex_ is held.
  void note_published(Transfer::State& call) const;
  /// Errors: kNotFound. Requires: mutex_ is held.
  Status check_peer(const std::string& name) const;
  /// Take the places of a fetch of `whole` blocks, under its tenant's quota. Requires: mutex_ is
  /// held.
  Status take_places(FetchPlaces& places, size_t whole);
  /// Unpin a fetch's blocks for its engine. Requires: mutex_ is held.
  void let_go(FetchPlaces& places);
  /// Hash those blocks of a list that `verify` picks and that are not published. Takes the lock,
  /// but not while it hashes. Errors: kStale; kCorruption for a block that was set aside.
  Result<std::vector<SealedSum>> sums_of(std::span<const BlockAddress> blocks);
  /// Begin a transfer of these blocks by `start`, which is given their sums and the handle's state.
  using Start = std::function<Status(std::vector<SealedSum> sums,
                                     const std::shared_ptr<Transfer::State>& state)>;
  Result<Transfer> send(std::span<const BlockAddress> blocks, const TransferOptions& options,
                        const Start& start);

  EngineCalls embedded_{*this, kCallerSession};  // of the caller in this process

  const ForkMark made_in_;
  const AgentOptions options_;
  const uint64_t incarnation_;
  const Clock& clock_;
  Content content_;  // of options_.content
  Verify verify_ = Verify::kSampled;
  Metrics metrics_;
  Counter* match_hits_ = nullptr;  // of metrics_, looked up once
  Counter* match_misses_ = nullptr;

  // Those inside receive() or a handle's call. Shared with handles, which may outlive the agent.
  const std::shared_ptr<Gate> visitors_ = std::make_shared<Gate>();

  mutable std::mutex mutex_;  // guards what follows, up to arrivals_
  std::unique_ptr<BlockPool> pool_;
  std::unique_ptr<LocalIndex> index_;
  std::unique_ptr<SourceMachine> source_;
  std::unique_ptr<TargetMachine> target_;
  std::map<std::string, std::string> peers_;
  std::map<TransferId, std::shared_ptr<Transfer::State>> calls_;  // shared with their handles
  struct Session {
    PeerInfo peer;
    bool dialed = false;
    bool up = false;
    std::string host;
    std::string transport;
    std::string route;
    std::vector<std::string> refusals;
    Welcome welcome;
    std::string role() const { return dialed ? "target" : "source"; }  // the peer's
  };
  std::map<SessionId, Session> sessions_;
  std::map<SessionId, AgentStatus::Engine> engines_;  // attached, or leaving
  struct Adoption {
    NewSegment parts;                // by shard, until all are there
    std::vector<SessionId> lenders;  // by shard
    std::vector<bool> given;         // likewise
    uint32_t blocks = 0;
    bool in_place = false;
    std::optional<uint32_t> first_block;  // of the segment, once all are there
  };
  std::map<std::string, Adoption> adoptions_;
  std::set<std::string> quarantine_writers_;  // that metrics have shown
  uint64_t evictions_counted_ = 0;            // of the index's, by metrics
  uint64_t closed_idle_counted_ = 0;          // of the source's, by metrics

  ArrivalQueue arrivals_;

  std::mutex idle_mutex_;  // guards what follows
  std::condition_variable idle_changed_;
  bool stopped_ = false;
  bool idle_ = false;  // what drain() waits for

 private:
  // One backend's events, with the backend they come from.
  class Port;

  // TransferOwner
  void cancel(TransferId transfer) override;
  Status hand_over(TransferId transfer, LayerRange layers) override;
  void layers_ready(TransferId transfer, LayerRange layers) override;
  Status check_commit(TransferId transfer) override;
  void commit(const Transfer::State& call) override;

  // ControlEvents
  Result<Welcome> on_accepted(SessionId session, const PeerInfo& peer) override;
  void on_dialed(const std::string& name, SessionId session, const PeerInfo& peer,
                 const std::string& host, const Welcome& welcome) override;
  void on_dial_failed(const std::string& name, const Status& why) override;
  void on_message(SessionId session, Message message) override;
  void on_welcome(SessionId session, Welcome welcome) override;
  void on_closed(SessionId session, const Status& why) override;
  void on_written() override { note_idle(); }

  Status check_options() const;
  Status open_pool();
  Status open_transports();
  Result<std::unique_ptr<Transport>> open_transport(const TransportRegistry& registry,
                                                    const std::string& name,
                                                    const TransportContext& context);
  /// Errors: kUnavailable, with the reasons, where what agent.require names is not open.
  Status check_required() const;
  Status open_admin();
  Status open_attach();
  /// The rest of start(), on the agent's thread.
  Status serve();
  std::optional<AdminServer::Page> page_of(std::string_view path);
  /// Why no transfer should come here; ok when it may. Requires: mutex_ is held.
  Status readiness(const Status& audit) const;
  /// Tell drain() when nothing is open and every source has heard how its transfers ended.
  void note_idle();
  /// What any peer may use here.
  Welcome make_welcome() const;
  /// The same with the addresses for one of them.
  Welcome welcome_for(uint64_t peer);
  std::string why_not(const Welcome& welcome, const std::string& name) const;
  void connect_transport(SessionId session, size_t choice);
  void on_endpoint(SessionId session, size_t choice, Result<std::unique_ptr<Endpoint>> endpoint);
  void on_data_done(TransferId transfer, const Status& status, const DataReport& report);
  void on_peer_notified(uint64_t peer, Slot slot);
  /// Tell the machine whose session it was. Requires: mutex_ is held.
  void end_session(SessionId session, const Status& why);
  void close_dialed(uint64_t peer, const Status& why);
  void on_peer_fenced(uint64_t peer);

  /// Give a segment its place, tell transports and peers, and let its blocks be used.
  Result<uint32_t> place(NewSegment segment);
  /// A segment that is to go.
  struct Closing {
    TimePoint deadline;
    std::function<void(Status)> done;  // by the deadline: ok when it has gone
    std::function<void()> on_dropped;  // before `done` is ok, or some time after it was not
    bool shrinks = false;              // rather than withdraws
    bool answered = false;             // `done` has been called, but the segment has yet to go
  };
  /// Let no block of a segment be used anew, and drop it once none is in use.
  void close_segment(uint32_t first_block, Closing closing);
  /// Go on with the segments that are closed.
  void drop_closed(TimePoint now);
  Status empty_closed(uint32_t first_block, bool late);
  bool forget_regions(uint32_t first_block);
  void give_up_closing();
  void cancel_calls();
  /// Have shrinks end by their deadline now.
  void give_up_shrinking();
  bool draining() const;
  /// Tell whether all tenants' floors fit into a pool of so many blocks less.
  Status check_floors(uint32_t less) const;
  Status being_let_go(const std::string& name) const;
  bool stopping();
  void tell_segments();
  void pump();
  void on_tick();
  void carry_out(DialPeer& action);
  void carry_out(SendMessage& action);
  void carry_out(PostData& action);
  void carry_out(PostLayers& action);
  void carry_out(FinishData& action);
  void carry_out(StopData& action);
  void carry_out(EndCall& action);
  void carry_out(OpenSlot& action);
  void carry_out(CloseSlot& action);
  void carry_out(VerifyBlocks& action);
  void carry_out(VerifyFetch& action);
  void carry_out(FencePeer& action);
  void carry_out(CloseSession& action);
  void carry_out(DeliverArrival& action);
  /// Do `step` again and again until it is through, everything else having its turn between.
  void in_turns(std::function<bool()> step);
  void recheck_sources(const Transfer::State& call);
  void take_fetched(FetchPlaces& places, EndCall& end);
  /// Requires: mutex_ is held.
  void unawait(FetchPlaces& places);
  /// Requires: mutex_ is held.
  Result<std::vector<BlockAddress>> publish_fetched(const FetchPlaces& places,
                                                    std::span<const BlockAddress> blocks,
                                                    std::span<const Seal> seals);
  uint64_t incarnation_of(SessionId session) const;
  void show_peer(const Session& session, bool needless = false);

  EventLoop loop_;
  std::vector<std::unique_ptr<TransportEvents>> ports_;  // one a transport
  std::vector<std::unique_ptr<Transport>> transports_;
  std::map<std::string, std::string> closed_transports_;  // name -> why; as it was at start
  std::unique_ptr<ControlPlane> control_;
  std::unique_ptr<DataMover> mover_;
  std::unique_ptr<AdminServer> admin_;
  std::unique_ptr<AttachServer> attach_;  // null: no engine can attach
  Liveness liveness_;
  std::map<uint64_t, size_t> fences_;  // peer -> transports that have yet to answer
  // How often blocks that are let go are looked for in closed segments.
  static constexpr std::chrono::milliseconds kClosingTick{5};
  std::map<uint32_t, Closing> closing_;     // by a segment's first block
  TimePoint next_look_ = TimePoint::min();  // at closing_
  uint64_t progress_ = 0;
  bool pumping_ = false;
  bool hung_up_ = false;  // drain() has told the sources
  bool serving_ = false;  // pool, transports and control plane are open; of the agent's thread
};

/// Take a block whose bytes are wrong out of the index and into quarantine, for good.
/// Requires: the agent's lock is held.
void set_corrupt_aside(BlockPool& pool, LocalIndex& index, const BlockAddress& block);

}  // namespace mempool
