// SPDX-License-Identifier: Apache-2.0
// Owns the serving of peers' lists, one in a turn of the loop.
#include "transport/shm/shm_target.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/check.h"
#include "core/log.h"

namespace mempool {
namespace {

// Acknowledgements that go in one message when lists wait: each message wakes the source.
constexpr size_t kAcksTogether = 3;

}  // namespace

/// One connection that a peer opened. Thread: confined, as its target.
class ShmTarget::Inbound final : public ShmLinkOwner {
 public:
  Inbound(ShmTarget& target, std::unique_ptr<ShmLink> link)
      : target_(target), link_(std::move(link)) {
    link_->set_owner(*this);
  }

  uint64_t peer() const { return link_->peer(); }
  uint64_t system_calls() const { return link_->socket().system_calls(); }

  Status on_frame(const ShmHeader& header, std::span<const std::byte> body) override;
  void on_closed(const Status& why) override { target_.lose(*this, why); }

 private:
  Result<const ShmWord*> word_of(const ShmHeader& header) const;
  Result<ShmVerdict> serve_list(const ShmHeader& header, std::span<const std::byte> body);
  Result<ShmVerdict> serve_notify(const ShmHeader& header);
  Status check(Slot slot, std::span<const RunPair> pairs);

  ShmTarget& target_;
  std::unique_ptr<ShmLink> link_;
};

Status ShmTarget::Inbound::on_frame(const ShmHeader& header, std::span<const std::byte> body) {
  if (header.type != ShmFrameType::kList && header.type != ShmFrameType::kNotify) {
    return invalid_argument(
        fmt::format("malformed frame: type {} is not for a target", static_cast<int>(header.type)));
  }
  const Result<ShmVerdict> verdict =
      header.type == ShmFrameType::kList ? serve_list(header, body) : serve_notify(header);
  if (!verdict.ok()) return verdict.status();
  link_->socket().add(
      {.type = ShmFrameType::kAck, .verdict = *verdict, .slot = header.slot, .tag = header.tag});
  ShmSocket& socket = link_->socket();
  if (!socket.holds_frame() || socket.queued() >= kAcksTogether) socket.flush();
  return {};
}

Result<const ShmWord*> ShmTarget::Inbound::word_of(const ShmHeader& header) const {
  const ShmWord* word = link_->memory().source_word(header.word);
  if (word != nullptr) return word;
  return invalid_argument(
      fmt::format("malformed frame: word {} is past the table that was given", header.word));
}

// The order is the whole point: word and generations, then the bytes, then both again. A source
// raises them before it reuses a byte, so bytes that came after a reuse come with the raise.
Result<ShmVerdict> ShmTarget::Inbound::serve_list(const ShmHeader& header,
                                                  std::span<const std::byte> body) {
  std::vector<RunPair>& pairs = target_.pairs_;
  MEMPOOL_RETURN_IF_ERROR(decode_shm_pairs(body, pairs));
  MEMPOOL_ASSIGN_OR_RETURN(const ShmWord* const word, word_of(header));
  if (word->load(std::memory_order_acquire) != header.expected) return ShmVerdict::kStale;
  if (!target_.shared_.slots.is_open(peer(), header.slot)) return ShmVerdict::kOk;
  ShmCopier& copier = target_.shared_.copier;
  copier.begin();
  MEMPOOL_RETURN_IF_ERROR(check(header.slot, pairs));
  copier.copy();
  for (const RunPair& pair : pairs) target_.served_.bytes += pair.bytes;
  const bool same_blocks = copier.unchanged();
  const bool same_slot = word->load(std::memory_order_acquire) == header.expected;
  if (same_blocks && same_slot) return ShmVerdict::kOk;
  target_.shared_.slots.mark_stale(peer(), header.slot);
  return ShmVerdict::kStale;
}

Result<ShmVerdict> ShmTarget::Inbound::serve_notify(const ShmHeader& header) {
  MEMPOOL_ASSIGN_OR_RETURN(const ShmWord* const word, word_of(header));
  if (word->load(std::memory_order_acquire) != header.expected) return ShmVerdict::kStale;
  ShmSlots& slots = target_.shared_.slots;
  if (!slots.is_open(peer(), header.slot)) return ShmVerdict::kOk;
  if (slots.is_stale(peer(), header.slot)) return ShmVerdict::kStale;
  target_.shared_.events->notified(peer(), header.slot);
  return ShmVerdict::kOk;
}

// Hand the copier what it is to watch and to copy, once every pair is found good.
Status ShmTarget::Inbound::check(Slot slot, std::span<const RunPair> pairs) {
  const ShmPeerRegion* from = nullptr;  // of the pair before, as mostly of this one
  const Region* to = nullptr;
  for (const RunPair& pair : pairs) {
    if (from == nullptr || from->facts.region != pair.local_region) {
      from = link_->memory().find(pair.local_region);
    }
    if (to == nullptr || to->id != pair.remote_region) {
      to = target_.shared_.regions.find(pair.remote_region);
    }
    const std::byte* source =
        from == nullptr ? nullptr : from->resolve(pair.local_offset, pair.bytes);
    if (source == nullptr) {
      return permission_denied(
          fmt::format("{} bytes at {} of the source's region {} were not given", pair.bytes,
                      pair.local_offset, pair.local_region));
    }
    if (to == nullptr || !lies_inside(to->bytes, pair.remote_offset, pair.bytes)) {
      return permission_denied(fmt::format("{} bytes at {} of region {} are not registered here",
                                           pair.bytes, pair.remote_offset, pair.remote_region));
    }
    target_.shared_.copier.watch(*from, pair.local_offset, pair.bytes);
    if (!target_.judge_.admits(peer(), slot, Operation::kWrite, pair.remote_region,
                               pair.remote_offset, pair.bytes)) {
      return permission_denied(fmt::format("{} bytes at {} of region {} are not of slot {}",
                                           pair.bytes, pair.remote_offset, pair.remote_region,
                                           slot.index));
    }
    target_.shared_.copier.add(to->base + pair.remote_offset, source, pair.bytes);
  }
  return {};
}

ShmTarget::ShmTarget(ShmShared& shared, TransportEvents& judge) : shared_(shared), judge_(judge) {}

ShmTarget::~ShmTarget() = default;

bool ShmTarget::adopt(std::unique_ptr<ShmLink> link) {
  const auto of_peer =
      std::ranges::count_if(inbound_, [&](const auto& one) { return one->peer() == link->peer(); });
  if (of_peer >= kShmPerPeerMax || inbound_.size() >= kShmInboundMax) return false;
  inbound_.push_back(std::make_unique<Inbound>(*this, std::move(link)));
  return true;
}

void ShmTarget::drop(uint64_t peer) {
  std::erase_if(inbound_, [&](const auto& one) {
    if (one->peer() != peer) return false;
    *served_.system_calls += one->system_calls();
    return true;
  });
  shared_.slots.forget(peer);
}

CallCounts ShmTarget::counts() const {
  CallCounts counts = served_;
  for (const auto& one : inbound_) *counts.system_calls += one->system_calls();
  return counts;
}

void ShmTarget::lose(const Inbound& inbound, const Status& why) {
  const uint64_t peer = inbound.peer();
  const Status lost = why.with_context(fmt::format("connection from peer {:x}", peer));
  if (lost.code() != StatusCode::kUnavailable) log().warning("shm: {}", lost.to_string());
  *served_.system_calls += inbound.system_calls();
  std::erase_if(inbound_, [&](const auto& one) { return one.get() == &inbound; });
  shared_.events->lost(peer, Direction::kInbound, lost);
}

}  // namespace mempool
