// SPDX-License-Identifier: Apache-2.0
// Owns the target's half of the protocol: reservations, commits, cancels, quarantine and fences of
// every inbound transfer. No socket, no clock: events and times come in, actions go out.
//
//   reserved -> landing (commit came; lanes still count) -> verifying -> published
//   reserved, landing -> draining (blocks in quarantine; the source is asked) -> free
// A fetch is a transfer that reserves nothing and is never committed: its blocks are pinned, its
// slot lets them be read, and it ends by the source's Cancel, or drains.
// Without a prompt (agent/target_places.cc) blocks are held for a session, until a transfer to them
// takes them over, a Cancel names them or the session is over.
//
// Invariants: a block leaves quarantine only when the source said that nothing is in flight, or its
// peer was fenced; what is published was committed, all lanes notified and the checks passed; a
// number has one effect.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "agent/action.h"
#include "agent/answer_book.h"
#include "agent/message.h"
#include "agent/slot_table.h"
#include "core/block_pool.h"
#include "core/checksum.h"
#include "core/clock.h"
#include "index/local_index.h"

namespace mempool {

/// Thread: serialized (the agent's one lock); admits() is confined to the agent's thread, the only
/// one that changes slots.
class TargetMachine {
 public:
  struct Options {
    ContentId model;
    Verify verify = Verify::kSampled;
    bool deliver_arrivals = true;
    uint32_t max_open = 64;  // reserved, or published and not yet received
    uint32_t max_sessions = 1024;
    uint32_t retry_hint_ms = 10;
    Duration retransmit = std::chrono::milliseconds(200);
    Duration fence_timeout = std::chrono::milliseconds(1000);
  };

  TargetMachine(const Options& options, BlockPool& pool, LocalIndex& index);

  /// Errors: kUnavailable while an older session of the same peer is still being fenced;
  /// kResourceExhausted past max_sessions.
  Status on_session_up(SessionId session, const PeerInfo& info);
  /// The connection is gone: what it had open goes to quarantine and the peer is fenced.
  void on_session_down(SessionId session);
  void on_message(SessionId session, Message message, TimePoint now);
  /// One lane says that a slot's writes have landed.
  void on_notified(SessionId session, Slot slot);
  /// `bad` lists the blocks whose bytes do not have their sum.
  void on_verified(SessionId session, uint64_t number, const std::vector<uint32_t>& bad);
  void on_fenced(SessionId session);
  /// Answer every new offer with kUnavailable from now on; what is open goes on.
  void refuse_new() { refusing_ = true; }
  bool refusing() const { return refusing_; }
  /// The engine took an arrival from the queue.
  void on_received() { --undelivered_; }

  void on_time(TimePoint now);
  TimePoint next_time() const;

  /// The open slot's entry, or null.
  const SlotTable::Entry* find_slot(Slot slot) const { return slots_.find(slot); }
  /// Tell whether a peer may touch this range now.
  bool admits(SessionId session, Slot slot, Operation operation, uint32_t region, uint64_t offset,
              uint64_t bytes) const {
    return slots_.admits(session, slot, operation, region, offset, bytes);
  }

  std::vector<Action> take_actions() { return std::exchange(actions_, {}); }
  /// Transfers and leases not over yet, those whose blocks are in quarantine among them.
  size_t open() const;

 private:
  enum class State : uint8_t { kReserved, kLanding, kVerifying, kDraining };
  struct Inbound {
    State state = State::kReserved;
    Offer offer;  // as it came
    OfferReply reply;
    std::vector<SealedSum> sums;
    uint32_t notified = 0;
    uint32_t expected = 0;
    bool cancelled = false;  // while verifying
    size_t awaited = 0;      // blocks that the tenant's quota counts for it
    TimePoint deadline;
    TimePoint ask_at = TimePoint::max();
    TimePoint fence_at = TimePoint::max();
  };
  struct Session {
    PeerInfo info;
    bool fencing = false;
    bool fenced = false;  // nothing more can land
    std::map<uint64_t, Inbound> open;
    std::map<BlockAddress, uint64_t> held;    // reserved for the peer; the number it asked under
    std::map<uint64_t, uint32_t> held_under;  // how many of them each number has
    std::vector<uint32_t> bad_blocks;         // arrived wrong; aside until the session is over
  };

  void on_offer(SessionId id, Session& session, Offer offer, TimePoint now);
  Status check_offer(const Offer& offer) const;
  Status check_room(size_t wanted, size_t most) const;
  Status check_pool_holds(size_t wanted) const;
  /// Do what an offer asks for, all of it or nothing.
  Status grant(SessionId id, Session& session, const Offer& offer, OfferReply& reply);
  Status reserve(SessionId id, const Offer& offer, OfferReply& reply);
  Status take_free(SessionId id, size_t count, std::optional<uint32_t> after,
                   std::vector<BlockAddress>& out);
  Status check_share(const Session& session, size_t wanted) const;
  Status hold(SessionId id, Session& session, const Offer& offer, OfferReply& reply);
  /// Tell whether it was held for the peer; then it is so no more, and its pin is the caller's.
  static bool drop_held(Session& session, const BlockAddress& block);
  Status take_places(SessionId id, Session& session, const Offer& offer, OfferReply& reply);
  void let_go(SessionId id, Session& session, const Cancel& cancel);
  Status lease(SessionId id, const Offer& offer, OfferReply& reply);
  void on_commit(SessionId id, Session& session, const Commit& commit);
  void on_cancel(SessionId id, Session& session, const Cancel& cancel);
  void on_goodbye(SessionId id, Session& session);
  void landed(SessionId id, uint64_t number, Inbound& inbound);
  void publish(SessionId id, Session& session, uint64_t number);
  void seal_places(SessionId id, Session& session, uint64_t number);
  void deliver(const Session& session, uint64_t number, Inbound& inbound,
               const std::vector<BlockAddress>& blocks, std::vector<BlockAddress> pinned);
  std::vector<BlockAddress> hand_over(SessionId id, const Inbound& inbound,
                                      const InsertOutcome& outcome);
  void drain(SessionId id, const Session& session, Inbound& inbound, TimePoint now);
  void give_back(SessionId id, const Session& session, const Inbound& inbound);
  void set_aside(SessionId id, Inbound& inbound, const std::string& writer);
  void fence(SessionId id, Session& session);
  void unawait(Inbound& inbound);
  void finish(SessionId id, Session& session, uint64_t number, Message answer);
  void end_if_empty(SessionId id);
  AnswerTable& answers(const Session& session);

  Options options_;
  BlockPool& pool_;
  LocalIndex& index_;
  SlotTable slots_;
  std::map<SessionId, Session> sessions_;
  AnswerBook book_;  // outlives sessions, so that a number has one effect
  uint32_t undelivered_ = 0;
  bool refusing_ = false;
  std::vector<Action> actions_;
};

}  // namespace mempool
