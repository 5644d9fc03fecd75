// SPDX-License-Identifier: Apache-2.0
// Owns one attached engine as its agent sees it: the greeting, the calls, the events, the end.
//
//   greeting -> attached -> leaving (its process may still write, or a transfer is open) -> (gone)
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "agent/attach_stream.h"
#include "agent/engine_calls.h"
#include "agent/event_loop.h"
#include "core/unix_socket.h"

namespace mempool {

class AttachServer;

/// Shared with the ends of its transfers, which find it gone or leaving. Thread: confined to the
/// loop's thread.
class AttachSession : public std::enable_shared_from_this<AttachSession> {
 public:
  AttachSession(AttachServer& server, Agent::Impl& agent, EventLoop& loop, SessionId id,
                Descriptor socket);

  /// Hear what it says, from now on.
  void read();
  /// The rank that it is, attached or leaving.
  std::optional<uint32_t> shard() const { return shard_; }
  pid_t process() const { return peer_.process; }
  /// Tell whether arrivals are its: the engine's first rank has them.
  bool receives() const { return state_ == State::kAttached && shard_ == 0u; }
  /// End every transfer that it has open with `why`.
  void give_up(const Status& why);
  /// Tell whether nothing of it is left but its blocks.
  bool is_over() const {
    return state_ == State::kLeaving && !mapped_ && open_.empty() && link_ == nullptr;
  }
  /// Give its blocks back. Requires: it is over, and so is every rank that could write to them.
  void give_back();
  /// Hand over an arrival, with those of its blocks that were pinned for the caller until then.
  void deliver(const Arrival& arrival, std::span<const BlockAddress> pinned);

 private:
  enum class State : uint8_t { kGreeting, kAttached, kLeaving };

  void on_frame(AttachFrame frame);
  Status greet(const AttachHello& hello);
  Status check_hello(const AttachHello& hello) const;
  Status welcome(Descriptor events);
  /// List the pool's segments, and put their descriptors behind those there are.
  Result<AttachWelcome> make_welcome(std::vector<Descriptor>& descriptors) const;
  void refuse(const Status& why);
  void handle(AttachCall& call);
  AttachAnswer answer(AttachCall& call);
  AttachAnswer answer_about_blocks(const AttachCall& call);
  AttachAnswer answer_about_index(const AttachCall& call);
  Status end_copy(const AttachCall& call);
  AttachAnswer claim(const AttachCall& call);
  Status adopt(const AttachCall& call);
  void withdraw(const AttachCall& call);
  Status start_transfer(AttachCall& call);
  Status start(AttachCall& call, const TransferOptions& options,
               const std::shared_ptr<Transfer::State>& state);
  Status answer_about_transfer(const AttachCall& call);
  Status take_ready(const AttachCall& call);
  Status take_commit(const AttachCall& call);
  Status obey(const AttachCall& call);
  void on_ended(uint64_t ticket, const Status& status);

  /// One socket and the waiting for it.
  struct Link {
    Link(EventLoop& loop, Descriptor socket)
        : stream(std::move(socket)), watch(loop, stream.descriptor()) {}
    AttachStream stream;
    Watch watch;
    bool waits_to_write = false;
  };
  void flush(Link& link);
  void leave(const Status& why);
  void let_go_at_peers();
  void watch_process_end();

  AttachServer& server_;
  Agent::Impl& agent_;
  EventLoop& loop_;
  const SessionId id_;
  EngineCalls calls_;
  State state_ = State::kGreeting;
  std::optional<uint32_t> shard_;
  SocketPeer peer_;
  std::unique_ptr<Link> link_;    // calls and answers
  std::unique_ptr<Link> events_;  // ends of transfers, and arrivals
  Descriptor process_;            // readable once the engine's process is gone
  std::unique_ptr<Watch> process_watch_;
  bool mapped_ = false;  // its process may still write
  struct Open {
    std::shared_ptr<Transfer::State> state;  // shared with the agent
    std::vector<LayerRange> awaited;         // handed over, and not ready yet
  };
  /// The transfer of a ticket, or null where it has ended.
  Open* find(uint64_t ticket);
  std::map<uint64_t, Open> open_;       // by ticket; shared with the agent
  std::vector<BlockAddress> reads_;     // begun, and not ended
  std::multiset<BlockAddress> copies_;  // likewise
  uint32_t unreceived_ = 0;             // arrivals that it has yet to take
};

}  // namespace mempool
