// SPDX-License-Identifier: Apache-2.0
// Owns one shm connection: the handshake, what each end gives the other to map, and then the frames
// of whoever uses it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "transport/event_queue.h"
#include "transport/region_table.h"
#include "transport/shm/shm_copier.h"
#include "transport/shm/shm_exports.h"
#include "transport/shm/shm_options.h"
#include "transport/shm/shm_peer_memory.h"
#include "transport/shm/shm_socket.h"
#include "transport/shm/shm_words.h"

namespace mempool {

class ShmLink;

/// What the connections of one transport share with it. Thread: confined.
struct ShmShared {
  boost::asio::io_context& io;
  const uint64_t incarnation;
  const std::string token;
  const ShmOptions options;
  const Proof ticket_secret;           // of which every peer's ticket is made
  std::shared_ptr<EventQueue> events;  // shared with what it has posted
  RegionTable regions;
  ShmExports exports;
  ShmSourceWords words;
  ShmSlots slots;
  ShmCopier copier;
  std::vector<ShmLink*> links;
  std::unordered_map<uint64_t, std::weak_ptr<ShmPeerMemory>> peers;

  /// The ticket with which a peer may connect here.
  Proof ticket_of(uint64_t peer) const;
  /// Tell whether `ticket` is that of the peer.
  bool is_ticket_of(uint64_t peer, const Proof& ticket) const;
  std::shared_ptr<ShmPeerMemory> memory_of(uint64_t peer);
};

/// Thread: confined, as its link.
class ShmLinkOwner {
 public:
  virtual ~ShmLinkOwner() = default;
  /// Both ends are proven and have mapped each other's memory. The owner may go inside.
  virtual void on_open() {}
  /// Errors break the connection.
  virtual Status on_frame(const ShmHeader& header, std::span<const std::byte> body) = 0;
  /// The connection is gone; the owner may go now.
  virtual void on_closed(const Status& why) = 0;
};

/// Thread: confined to the io_context's thread.
class ShmLink final : private ShmSocketOwner {
 public:
  /// Begin as the dialer of `peer`, with the ticket it gave. Errors: kPermissionDenied for a peer
  /// of another user.
  static Result<std::unique_ptr<ShmLink>> dial(ShmShared& shared, Descriptor socket, uint64_t peer,
                                               const Proof& ticket, ShmLinkOwner& owner);
  /// Begin as the acceptor. Errors likewise.
  static Result<std::unique_ptr<ShmLink>> accept(ShmShared& shared, Descriptor socket,
                                                 ShmLinkOwner& owner);
  ~ShmLink() override;

  void set_owner(ShmLinkOwner& owner) { owner_ = &owner; }
  /// The peer's incarnation; 0 before it is proven.
  uint64_t peer() const { return peer_; }
  const ShmPeerMemory& memory() const { return *memory_; }
  ShmSocket& socket() { return *socket_; }
  /// Give the peer what was registered since, or take it back. Nothing before the peer is proven.
  void give(const ShmExport& one);
  void take_back(uint64_t number);

 private:
  enum class Role : uint8_t { kDialer, kAcceptor };
  enum class State : uint8_t { kHello, kAnswer, kProof, kWelcome, kExchange, kTell, kOpen };

  ShmLink(ShmShared& shared, Descriptor socket, Role role, ShmLinkOwner& owner);
  void say(ShmFrameType type, uint64_t tag = 0);
  void say_proof(ShmFrameType type, ShmVerdict verdict, const Proof& proof);
  Status refuse(ShmVerdict verdict);

  Result<bool> on_turn() override;
  Status on_frame(const ShmHeader& header, std::span<const std::byte> body) override;
  void on_unreadable(const Status& why) override;
  void on_closed(const Status& why) override { owner_->on_closed(why); }
  Status on_hello(std::span<const std::byte> body);
  Status on_answer(const ShmHeader& header, std::span<const std::byte> body);
  Status on_proof(std::span<const std::byte> body);
  Status on_welcome(const ShmHeader& header, std::span<const std::byte> body);
  Status begin_exchange(uint64_t peer);
  Status on_memory(const ShmHeader& header, std::span<const std::byte> body);
  Status on_exchange(const ShmHeader& header);

  ShmShared& shared_;
  const Role role_;
  State state_;
  ShmLinkOwner* owner_;
  uint64_t peer_ = 0;
  bool counted_ = false;  // as a connection of the peer's in shared_.slots
  bool ready_ = false;    // we have mapped all that was given
  bool peer_ready_ = false;
  Challenge challenge_;
  std::shared_ptr<ShmPeerMemory> memory_;   // shared by the peer's connections
  std::shared_ptr<ShmMapping> populating_;  // shared with memory_
  std::shared_ptr<ShmSocket> socket_;       // shared with handlers that wait
};

}  // namespace mempool
