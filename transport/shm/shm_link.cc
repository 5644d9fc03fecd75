// SPDX-License-Identifier: Apache-2.0
// Owns the order of an shm connection's first frames, and the mapping of what comes.
#include "transport/shm/shm_link.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/check.h"

namespace mempool {
namespace {

constexpr std::string_view kPurpose = "data:shm";
constexpr std::string_view kTicketPurpose = "ticket:shm";
// What a peer may take to map one byte more, at the slowest.
constexpr uint64_t kPopulatePerMs = 256 << 10;

std::string_view text_of(const Proof& secret) {
  return {reinterpret_cast<const char*>(secret.data()), secret.size()};
}

}  // namespace

Proof ShmShared::ticket_of(uint64_t peer) const {
  return make_proof(text_of(ticket_secret), kTicketPurpose, {peer, incarnation, {}, {}},
                    ProofRole::kDialer);
}

bool ShmShared::is_ticket_of(uint64_t peer, const Proof& ticket) const {
  return check_proof(text_of(ticket_secret), kTicketPurpose, {peer, incarnation, {}, {}},
                     ProofRole::kDialer, ticket);
}

std::shared_ptr<ShmPeerMemory> ShmShared::memory_of(uint64_t peer) {
  std::erase_if(peers, [](const auto& one) { return one.second.expired(); });
  std::shared_ptr<ShmPeerMemory> memory = peers[peer].lock();
  if (!memory) peers[peer] = memory = std::make_shared<ShmPeerMemory>();
  return memory;
}

ShmLink::ShmLink(ShmShared& shared, Descriptor socket, Role role, ShmLinkOwner& owner)
    : shared_(shared),
      role_(role),
      state_(role == Role::kDialer ? State::kAnswer : State::kHello),
      owner_(&owner),
      socket_(std::make_shared<ShmSocket>(shared.io, std::move(socket),
                                          static_cast<ShmSocketOwner&>(*this))) {
  shared_.links.push_back(this);
}

ShmLink::~ShmLink() {
  socket_->close();
  std::erase(shared_.links, this);
  if (counted_) shared_.slots.disconnect(peer_);
}

Result<std::unique_ptr<ShmLink>> ShmLink::dial(ShmShared& shared, Descriptor socket, uint64_t peer,
                                               const Proof& ticket, ShmLinkOwner& owner) {
  std::unique_ptr<ShmLink> link(new ShmLink(shared, std::move(socket), Role::kDialer, owner));
  MEMPOOL_RETURN_IF_ERROR(link->socket_->check_user());
  link->challenge_ = {shared.incarnation, peer, make_nonce(), {}};
  encode_shm_hello(
      {shared.incarnation, peer, ticket, link->challenge_.dialer_nonce},
      link->socket_->add({.type = ShmFrameType::kHello, .body_bytes = kShmHelloBytes}));
  link->socket_->flush();
  link->socket_->set_deadline(shared.options.handshake_timeout);
  link->socket_->start();
  return link;
}

Result<std::unique_ptr<ShmLink>> ShmLink::accept(ShmShared& shared, Descriptor socket,
                                                 ShmLinkOwner& owner) {
  std::unique_ptr<ShmLink> link(new ShmLink(shared, std::move(socket), Role::kAcceptor, owner));
  MEMPOOL_RETURN_IF_ERROR(link->socket_->check_user());
  link->socket_->set_deadline(shared.options.handshake_timeout);
  link->socket_->start();
  return link;
}

void ShmLink::say(ShmFrameType type, uint64_t tag) {
  socket_->add({.type = type, .tag = tag});
  socket_->flush();
}

void ShmLink::say_proof(ShmFrameType type, ShmVerdict verdict, const Proof& proof) {
  std::memcpy(socket_->add({.type = type, .verdict = verdict, .body_bytes = sizeof proof}),
              proof.data(), proof.size());
  socket_->flush();
}

// Tell the dialer why not, and give the same words back.
Status ShmLink::refuse(ShmVerdict verdict) {
  encode_shm_answer({shared_.incarnation, {}}, socket_->add({.type = ShmFrameType::kAnswer,
                                                             .verdict = verdict,
                                                             .body_bytes = kShmAnswerBytes}));
  socket_->flush();
  return shm_verdict_status(verdict);
}

void ShmLink::on_unreadable(const Status& why) {
  const bool version = why.code() == StatusCode::kUnsupported && state_ == State::kHello;
  if (version) (void)refuse(ShmVerdict::kVersion);  // `why` is told already
}

Result<bool> ShmLink::on_turn() {
  if (populating_) {
    MEMPOOL_RETURN_IF_ERROR(populating_->populate_step());
    if (populating_->populated()) populating_.reset();
    return true;
  }
  if (state_ != State::kTell) return false;
  state_ = State::kOpen;
  socket_->end_deadline();
  owner_->on_open();  // this may be gone now
  return true;
}

Status ShmLink::on_frame(const ShmHeader& header, std::span<const std::byte> body) {
  static constexpr ShmFrameType kFirst[] = {ShmFrameType::kHello, ShmFrameType::kAnswer,
                                            ShmFrameType::kProof, ShmFrameType::kWelcome};
  if (state_ < State::kExchange && header.type != kFirst[static_cast<size_t>(state_)]) {
    return invalid_argument(
        fmt::format("malformed handshake: a frame of type {}", static_cast<int>(header.type)));
  }
  switch (state_) {
    case State::kHello:
      return on_hello(body);
    case State::kAnswer:
      return on_answer(header, body);
    case State::kProof:
      return on_proof(body);
    case State::kWelcome:
      return on_welcome(header, body);
    default:
      break;
  }
  if (header.type == ShmFrameType::kMemory || header.type == ShmFrameType::kForget) {
    socket_->flush();  // answers that waited for another list
    if (header.type == ShmFrameType::kMemory) return on_memory(header, body);
    memory_->remove(header.tag);
    return {};
  }
  return state_ == State::kOpen ? owner_->on_frame(header, body) : on_exchange(header);
}

Status ShmLink::on_hello(std::span<const std::byte> body) {
  const ShmHello hello = decode_shm_hello(body);
  if (hello.acceptor != shared_.incarnation) return refuse(ShmVerdict::kIncarnation);
  if (!shared_.is_ticket_of(hello.dialer, hello.ticket)) return refuse(ShmVerdict::kTicket);
  challenge_ = {hello.dialer, shared_.incarnation, hello.nonce, make_nonce()};
  encode_shm_answer({shared_.incarnation, challenge_.acceptor_nonce},
                    socket_->add({.type = ShmFrameType::kAnswer, .body_bytes = kShmAnswerBytes}));
  socket_->flush();
  state_ = State::kProof;
  return {};
}

Status ShmLink::on_answer(const ShmHeader& header, std::span<const std::byte> body) {
  MEMPOOL_RETURN_IF_ERROR(shm_verdict_status(header.verdict));
  const ShmAnswer answer = decode_shm_answer(body);
  if (answer.acceptor != challenge_.acceptor) return shm_verdict_status(ShmVerdict::kIncarnation);
  challenge_.acceptor_nonce = answer.nonce;
  say_proof(ShmFrameType::kProof, ShmVerdict::kOk,
            make_proof(shared_.token, kPurpose, challenge_, ProofRole::kDialer));
  state_ = State::kWelcome;
  return {};
}

Status ShmLink::on_proof(std::span<const std::byte> body) {
  Proof proof;
  std::memcpy(proof.data(), body.data(), proof.size());
  if (!check_proof(shared_.token, kPurpose, challenge_, ProofRole::kDialer, proof)) {
    say_proof(ShmFrameType::kWelcome, ShmVerdict::kProof, {});
    return shm_verdict_status(ShmVerdict::kProof);
  }
  say_proof(ShmFrameType::kWelcome, ShmVerdict::kOk,
            make_proof(shared_.token, kPurpose, challenge_, ProofRole::kAcceptor));
  return begin_exchange(challenge_.dialer);
}

Status ShmLink::on_welcome(const ShmHeader& header, std::span<const std::byte> body) {
  MEMPOOL_RETURN_IF_ERROR(shm_verdict_status(header.verdict));
  Proof proof;
  std::memcpy(proof.data(), body.data(), proof.size());
  if (!check_proof(shared_.token, kPurpose, challenge_, ProofRole::kAcceptor, proof)) {
    return shm_verdict_status(ShmVerdict::kProof);
  }
  return begin_exchange(challenge_.acceptor);
}

// The peer is who it says: give it what it may map. Writes need the dialer's words, reads those of
// the acceptor's open slots.
Status ShmLink::begin_exchange(uint64_t peer) {
  peer_ = peer;
  memory_ = shared_.memory_of(peer);
  state_ = State::kExchange;
  ShmMemory words{.kind = ShmMemoryKind::kWords};
  const HostMemory* table = &shared_.words.memory();
  if (role_ == Role::kAcceptor) {
    MEMPOOL_ASSIGN_OR_RETURN(table, shared_.slots.connect(peer));
    counted_ = true;
    words.kind = ShmMemoryKind::kOpenSlots;
  }
  words.bytes = table->size();
  MEMPOOL_ASSIGN_OR_RETURN(const ShmExport made, shared_.exports.make(words, table->descriptor()));
  give(made);
  for (const ShmExport& one : shared_.exports.all()) give(one);
  say(ShmFrameType::kGiven);
  return {};
}

void ShmLink::give(const ShmExport& one) {
  if (state_ < State::kExchange) return;
  Result<Descriptor> copy = duplicate(one.descriptor.number());
  if (!copy.ok()) return socket_->fail_later(copy.status());
  encode_shm_memory(one.memory, socket_->add({.type = ShmFrameType::kMemory,
                                              .tag = one.number,
                                              .body_bytes = kShmMemoryBytes},
                                             std::move(copy).value()));
  socket_->flush();
}

void ShmLink::take_back(uint64_t number) {
  if (state_ >= State::kExchange) say(ShmFrameType::kForget, number);
}

Status ShmLink::on_memory(const ShmHeader& header, std::span<const std::byte> body) {
  MEMPOOL_ASSIGN_OR_RETURN(const ShmMemory facts, decode_shm_memory(body));
  MEMPOOL_ASSIGN_OR_RETURN(const Descriptor descriptor, socket_->take_descriptor());
  MEMPOOL_ASSIGN_OR_RETURN(populating_, memory_->add(header.tag, facts, descriptor));
  // Mapping a large pool takes its time; the handshake's is for what comes after it.
  if (state_ < State::kOpen) {
    socket_->set_deadline(shared_.options.handshake_timeout +
                          std::chrono::milliseconds(facts.bytes / kPopulatePerMs));
  }
  return {};
}

Status ShmLink::on_exchange(const ShmHeader& header) {
  if (header.type == ShmFrameType::kGiven && !ready_) {
    ready_ = true;
    say(ShmFrameType::kReady);
    // The peer may be at it still, with what we gave; from here on its size decides how long.
    socket_->set_deadline(shared_.options.handshake_timeout +
                          std::chrono::milliseconds(shared_.exports.bytes() / kPopulatePerMs));
  } else if (header.type == ShmFrameType::kReady && !peer_ready_) {
    peer_ready_ = true;
  } else {
    return invalid_argument(
        fmt::format("malformed handshake: a frame of type {}", static_cast<int>(header.type)));
  }
  if (ready_ && peer_ready_) state_ = State::kTell;
  return {};
}

}  // namespace mempool
