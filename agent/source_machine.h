// SPDX-License-Identifier: Apache-2.0
// Owns the dialer's half of the protocol: every outbound transfer, and every fetch, from the
// caller's request to the end of its cancel. No socket, no clock: events and times come in, actions
// go out.
//
//   waiting -> offering -> sending -> committing -> (gone)
//              offering -> holding (nothing has to move, the caller has yet to commit) ->
//              committing
//   any of them -> stopping (something may still read the source) -> telling (the target has yet to
//   hear that nothing is in flight) -> (gone)
//
// A fetch: waiting -> offering -> sending (the peer's blocks are read into ours) -> verifying ->
// telling, with the call ended; the Cancel gives the lease back.
//
// Blocks held at a peer: waiting -> offering -> (gone), and held here until a transfer takes them
// over, or until telling, where the Cancel names them. A refusal for now gives them back to here.
//
// Invariants: the call ends once, by its deadline plus Options::stop_grace; source blocks stay
// pinned until nothing reads them, a fetch's places until nothing lands in them; Cancel is sent
// only when nothing of the transfer is in flight, Goodbye only when nothing is open at that peer.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "agent/action.h"
#include "agent/message.h"
#include "core/block_pool.h"
#include "core/clock.h"
#include "mempool/agent.h"

namespace mempool {

/// Holds the pins of the agent's own work: source blocks being sent, blocks being read.
inline constexpr SessionId kAgentSession = 1;
/// The first id for sessions with peers.
inline constexpr SessionId kFirstPeerSession = 2;

/// What a caller asks for, checked and with the seal checksums computed before the lock.
struct TransferRequest {
  Content content;
  std::vector<TokenId> tokens;
  std::vector<BlockAddress> blocks;
  std::vector<SealedSum> sums;
  Medium medium = Medium::kHost;
  uint64_t request_id = 0;
  std::vector<std::byte> user_data;
  std::string trace;
  TimePoint deadline;
  bool by_layer = false;  // layers are handed over one by one, and commit() brings the sums
  bool fetch = false;     // `blocks` are places for what follows the first `have` blocks
  uint32_t have = 0;
  std::vector<BlockAddress> places;   // at the peer, of `blocks`; then there are no tokens
  uint32_t reserve = 0;               // nothing moves: the peer is to hold so many blocks
  SessionId engine = kCallerSession;  // whose call it is
};

/// What the data plane did for one transfer.
struct DataReport {
  std::string transport;
  std::string route;
  uint32_t lanes = 0;  // notifications the target will see
  uint64_t paper_calls = 0;
  uint64_t run_pair_calls = 0;
  uint64_t network_calls = 0;
  uint64_t bytes = 0;
  std::optional<uint64_t> system_calls;
  uint64_t doorbells = 0;
  uint64_t completions = 0;
  TimePoint posted;  // when the last call was posted
};

/// Thread: serialized (the agent's one lock).
class SourceMachine {
 public:
  struct Options {
    uint32_t max_open = 1024;
    uint32_t max_connections = 256;  // sessions up, being made or being closed
    uint32_t retry_hint_ms = 10;
    Duration retransmit = std::chrono::milliseconds(200);
    Duration stop_grace = std::chrono::milliseconds(100);
  };

  SourceMachine(const Options& options, BlockPool& pool);

  /// Queue a transfer. Where there is no session with the peer it waits for one, and where all
  /// connections are taken, for the idle one that was used least recently to be closed.
  /// Errors: kResourceExhausted when max_open are open; kUnavailable after refuse_new(); kStale;
  /// kInvalidArgument, for a `reserve` with blocks too.
  Result<TransferId> start(const std::string& peer, TransferRequest request, TimePoint now);
  /// Hand over layers of a by-layer transfer: they will be ready, once. Errors: kInvalidArgument
  /// for layers that are not the pool's or were handed over before; kUnavailable when the call has
  /// ended.
  Status hand_over(TransferId transfer, LayerRange layers);
  /// What was handed over may be read from now on. Unknown ids are ended ones, here and below.
  void on_layers_ready(TransferId transfer, LayerRange layers);
  /// All layers are ready. Errors: kInvalidArgument, naming a layer that was not handed over, or
  /// for another commit; kUnavailable.
  Status check_commit(TransferId transfer) const;
  /// Requires: check_commit() was ok, and on_layers_ready() came for all that was handed over.
  void commit(TransferId transfer, std::vector<SealedSum> sums, TimePoint now);
  /// Take it back. Unknown ids are ended ones and are ignored.
  void cancel(TransferId transfer, TimePoint now);
  /// End it with `why`, which the caller's side has found.
  void give_up(TransferId transfer, Status why, TimePoint now);
  /// Start nothing from now on; what is open goes on.
  void refuse_new() { refusing_ = true; }
  /// Give back blocks that peers hold for an engine: all of them or none; the peer hears of it.
  /// Errors: kStale for what is not held; kInvalidArgument for two peers, or one named twice.
  Status release(SessionId engine, std::span<const BlockAddress> blocks, TimePoint now);
  /// Give back all that peers hold for an engine. Requires: it has no open call.
  void release_all(SessionId engine, TimePoint now);
  /// End every call (the agent stops).
  void cancel_all(TimePoint now);

  void on_session_up(const std::string& peer, SessionId session, const PeerInfo& info,
                     TimePoint now);
  void on_dial_failed(const std::string& peer, const Status& why, TimePoint now);
  void on_session_down(SessionId session, const Status& why, TimePoint now);
  void on_message(SessionId session, const Message& message, TimePoint now);
  /// The sums of FinishData::resum as the target has to have them.
  void on_resummed(TransferId transfer, std::vector<SealedSum> sums);
  /// `bad` lists the fetched blocks whose bytes do not have their sum.
  void on_fetch_verified(TransferId transfer, const std::vector<uint32_t>& bad, TimePoint now);
  /// All calls ended and, when `status` is ok, the notifications are posted: nothing reads the
  /// source any more.
  void on_data_done(TransferId transfer, const Status& status, const DataReport& report,
                    TimePoint now);

  void on_time(TimePoint now);
  /// When on_time() has something to do; TimePoint::max() for never.
  TimePoint next_time() const;

  std::vector<Action> take_actions() { return std::exchange(actions_, {}); }
  /// Transfers not gone yet, ended calls with an open cancel among them.
  size_t open() const { return transfers_.size(); }
  /// Sessions up, being made or being closed.
  size_t connections() const;
  /// Sessions that were closed for another peer.
  uint64_t closed_idle() const { return closed_idle_; }
  /// Tell whether the session was said goodbye to.
  bool closing(SessionId session) const;

 private:
  enum class State : uint8_t {
    kWaiting,
    kOffering,
    kSending,
    kHolding,
    kVerifying,
    kCommitting,
    kStopping,
    kTelling
  };
  struct Outbound {
    State state = State::kWaiting;
    std::string peer;
    SessionId session = 0;  // 0: none, or gone
    uint64_t number = 0;
    TransferRequest request;
    std::vector<BlockAddress> matched;
    std::vector<BlockAddress> reserved;
    std::vector<BlockAddress> taken;  // of the places, those that were held at the peer
    bool release = false;             // tells of held blocks alone; no call is behind it
    std::vector<bool> handed;         // by layer of the pool
    std::vector<LayerRange> layers;   // ready, and the target has yet to answer the offer
    bool finished = false;            // commit() came; always, when it is not by layer
    uint32_t fetched = 0;             // blocks of the request that a fetch fills
    TransferReport report;
    uint32_t lanes = 0;
    Status failure;
    bool ended = false;  // the call has its answer
    bool pinned = true;
    TimePoint started;
    TimePoint retry_at = TimePoint::max();
    TimePoint grace_end = TimePoint::max();
  };
  struct Peer {
    SessionId session = 0;
    bool dialing = false;
    uint32_t goodbyes = 0;                    // said; then the target's end of it follows
    TimePoint goodbye_at = TimePoint::max();  // when to say it again
    uint32_t open = 0;                        // transfers, as open() counts them
    uint64_t last_use = 0;                    // the end of its last one, in the order of all
    uint64_t incarnation = 0;
    uint64_t next_number = 1;
    PeerInfo info;
    std::map<BlockAddress, SessionId> held;  // there, for engines here; goes with the session
  };

  Status check_places(const std::string& peer, const TransferRequest& request) const;
  Status check_elsewhere(const std::string& peer, const BlockAddress& place) const;
  void take_over(Outbound& transfer, Peer& peer);
  void refused(TransferId id, Outbound& transfer, const Status& status, TimePoint now);
  void take_held(TransferId id, Outbound& transfer, const OfferReply& reply, TimePoint now);
  void tell_released(const std::string& name, Peer& peer, std::span<const BlockAddress> blocks,
                     TimePoint now);
  /// Tell whether nothing is open at the peer, or held there through its session.
  bool idle(const Peer& peer) const;
  /// Have the peer dialed by one of the next connect().
  void want(const std::string& peer);
  /// Dial the wanted peers, first come first, as far as the limit allows; for the rest, make room.
  void connect(TimePoint now);
  /// Have idle sessions closed, as many as peers wait.
  void make_room(TimePoint now);
  void say_goodbye(Peer& peer, TimePoint now);
  std::vector<TransferId> waiting_for(const std::string& peer) const;
  /// What a call that is past its deadline ends with.
  Status lateness(const Outbound& transfer) const;

  void send_offer(Outbound& transfer, TimePoint now);
  void send_commit(Outbound& transfer, TimePoint now);
  void send_cancel(Outbound& transfer, TimePoint now);
  void finish_data(TransferId id, const Outbound& transfer);
  void read_leased(TransferId id, Outbound& transfer, const OfferReply& reply, TimePoint now);
  void verify_fetched(TransferId id, Outbound& transfer, TimePoint now);
  void end_fetch(TransferId id, Outbound& transfer, TimePoint now);
  void begin(TransferId id, Outbound& transfer, Peer& peer, TimePoint now);
  void fail(TransferId id, Outbound& transfer, Status status, TimePoint now);
  void quiet(TransferId id, Outbound& transfer, TimePoint now);
  void end_call(TransferId id, Outbound& transfer, const Status& status, TimePoint now);
  void unpin(Outbound& transfer);
  void erase(TransferId id, TimePoint now);
  Outbound* find(SessionId session, uint64_t number, TransferId* id);

  void on_offer_reply(SessionId session, const OfferReply& reply, TimePoint now);
  void on_commit_reply(SessionId session, const CommitReply& reply, TimePoint now);
  void on_cancel_reply(SessionId session, const CancelReply& reply, TimePoint now);
  void on_stop_request(SessionId session, const StopRequest& request, TimePoint now);
  Status check_open(TransferId id) const;
  Status check_reply(const Outbound& transfer, const OfferReply& reply) const;
  Status check_lease(const Outbound& transfer, const OfferReply& reply) const;
  Status check_reply(const Outbound& transfer, const CommitReply& reply) const;

  Options options_;
  BlockPool& pool_;
  std::map<std::string, Peer> peers_;
  std::deque<std::string> wanted_;  // peers that transfers wait for, not dialed yet
  std::map<TransferId, Outbound> transfers_;
  TransferId next_id_ = 1;
  size_t releases_ = 0;  // of transfers_: what tells of held blocks alone
  uint64_t uses_ = 0;
  uint64_t closed_idle_ = 0;
  bool refusing_ = false;
  std::vector<Action> actions_;
};

}  // namespace mempool
