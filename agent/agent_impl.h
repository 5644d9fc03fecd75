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

  /// Have the agent's thread carry out what the machines have asked for. Thread: safe.
  void request_pump();
  AgentStatus status() const;
  Status drain(std::chrono::milliseconds timeout);
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
    std::vector<std::string> refusals;
    Welcome welcome;
    std::string role() const { return dialed ? "target" : "source"; }  // the peer's
  };
  std::map<SessionId, Session> sessions_;
  std::map<SessionId, AgentStatus::Engine> engines_;  // attached, or leaving
  std::set<std::string> quarantine_writers_;          // that metrics have shown
  uint64_t evictions_counted_ = 0;                    // of the index's, by metrics

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
  void on_closed(SessionId session, const Status& why) override;
  void on_written() override { note_idle(); }

  Status check_options() const;
  Status open_pool();
  Status open_transports();
  Status open_admin();
  Status open_attach();
  /// The rest of start(), on the agent's thread.
  Status serve();
  std::optional<AdminServer::Page> page_of(std::string_view path);
  /// Why no transfer should come here; ok when it may. Requires: mutex_ is held.
  Status readiness(const Status& audit) const;
  /// Tell drain() when nothing is open and every source has heard how its transfers ended.
  void note_idle();
  std::vector<PlanSegment> plan_segments() const;
  void connect_transport(SessionId session, size_t choice);
  void on_endpoint(SessionId session, size_t choice, Result<std::unique_ptr<Endpoint>> endpoint);
  void on_data_done(TransferId transfer, const Status& status, const DataReport& report);
  void on_peer_notified(uint64_t peer, Slot slot);
  void close_dialed(uint64_t peer, const Status& why);
  void on_peer_fenced(uint64_t peer);

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
  void show_peer(const Session& session);

  EventLoop loop_;
  std::vector<std::unique_ptr<Port>> ports_;
  std::vector<std::unique_ptr<Transport>> transports_;
  std::map<std::string, std::string> closed_transports_;  // name -> why it did not open
  std::unique_ptr<ControlPlane> control_;
  std::unique_ptr<DataMover> mover_;
  std::unique_ptr<AdminServer> admin_;
  std::unique_ptr<AttachServer> attach_;  // null: no engine can attach
  Liveness liveness_;
  std::map<uint64_t, size_t> fences_;  // peer -> transports that have yet to answer
  uint64_t progress_ = 0;
  bool pumping_ = false;
  bool hung_up_ = false;  // drain() has told the sources
  bool serving_ = false;  // pool, transports and control plane are open; of the agent's thread
};

/// Take a block whose bytes are wrong out of the index and into quarantine, for good.
/// Requires: the agent's lock is held.
void set_corrupt_aside(BlockPool& pool, LocalIndex& index, const BlockAddress& block);

}  // namespace mempool
