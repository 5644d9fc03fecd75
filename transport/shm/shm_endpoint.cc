// SPDX-License-Identifier: Apache-2.0
// Owns the life of a call on an shm endpoint, from post to completion.
#include "transport/shm/shm_endpoint.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/check.h"

namespace mempool {
namespace {

constexpr int kIndexBits = 8;

}  // namespace

ShmEndpoint::ShmEndpoint(ShmShared& shared, ShmEndpoints& endpoints, std::unique_ptr<ShmLink> link)
    : shared_(shared), endpoints_(endpoints), peer_(link->peer()), link_(std::move(link)) {
  link_->set_owner(*this);
  endpoints_.open.push_back(this);
}

ShmEndpoint::~ShmEndpoint() {
  close();
  std::erase(endpoints_.open, this);
  endpoints_.ended += counts_;
}

CallCounts ShmEndpoint::counts() const {
  CallCounts counts = counts_;
  if (link_) *counts.system_calls += link_->socket().system_calls();
  return counts;
}

Status ShmEndpoint::import_key(uint32_t remote_region, std::span<const std::byte> key) {
  MEMPOOL_ASSIGN_OR_RETURN(const RegionKey parsed, decode_region_key(key, peer_, remote_region));
  remote_bytes_[remote_region] = parsed.bytes;
  return {};
}

Status ShmEndpoint::check_room() const {
  if (!link_) return unavailable(fmt::format("the connection to peer {:x} is closed", peer_));
  if (*in_flight_ < kShmCallsInFlight) return {};
  return resource_exhausted(
      fmt::format("{} calls to peer {:x} are under way", kShmCallsInFlight, peer_));
}

Status ShmEndpoint::check_ranges(const Call& call) const {
  const Region* local = nullptr;  // of the pair before, as mostly of this one
  const RunPair* last = nullptr;
  uint64_t remote_bytes = 0;
  for (const RunPair& pair : call.pairs) {
    if (last == nullptr || last->local_region != pair.local_region) {
      local = shared_.regions.find(pair.local_region);
    }
    if (last == nullptr || last->remote_region != pair.remote_region) {
      const auto remote = remote_bytes_.find(pair.remote_region);
      remote_bytes = remote == remote_bytes_.end() ? 0 : remote->second;
    }
    last = &pair;
    if (local == nullptr || !lies_inside(local->bytes, pair.local_offset, pair.bytes)) {
      return invalid_argument(fmt::format("{} bytes at {} of local region {} are not registered",
                                          pair.bytes, pair.local_offset, pair.local_region));
    }
    if (pair.bytes == 0 || !lies_inside(remote_bytes, pair.remote_offset, pair.bytes)) {
      return invalid_argument(
          fmt::format("{} bytes at {} of region {} of peer {:x} are outside what its keys name",
                      pair.bytes, pair.remote_offset, pair.remote_region, peer_));
    }
  }
  return {};
}

Status ShmEndpoint::check_limits(const Call& call) const {
  if (call.pairs.empty()) return invalid_argument("a call without run pairs");
  uint64_t bytes = 0;
  uint32_t pieces = 0;
  uint32_t ranges = 0;
  RunPair last;
  for (const RunPair& pair : call.pairs) {
    const bool first = &pair == call.pairs.data();
    pieces += first || pair.local_region != last.local_region ||
              pair.local_offset != last.local_offset + last.bytes;
    ranges += first || pair.remote_region != last.remote_region ||
              pair.remote_offset != last.remote_offset + last.bytes;
    last = pair;
    if (pair.bytes > kShmCallBytesMax - bytes) {
      return unsupported(fmt::format("a call takes at most {} bytes", kShmCallBytesMax));
    }
    bytes += pair.bytes;
  }
  if (pieces <= kShmPiecesMax && ranges <= kShmPiecesMax && call.pairs.size() <= kShmPairsMax) {
    return {};
  }
  return unsupported(fmt::format("a call of {} pieces and {} ranges, shm takes {} of each", pieces,
                                 ranges, kShmPiecesMax));
}

Status ShmEndpoint::post(const Call& call) {
  MEMPOOL_RETURN_IF_ERROR(check_room());
  MEMPOOL_RETURN_IF_ERROR(check_ranges(call));
  MEMPOOL_RETURN_IF_ERROR(check_limits(call));
  MEMPOOL_RETURN_IF_ERROR(call.operation == Operation::kWrite ? write(call) : read(call));
  ++counts_.network_calls;
  counts_.run_pairs += call.pairs.size();
  for (const RunPair& pair : call.pairs) counts_.bytes += pair.bytes;
  return {};
}

// ---- writes ----------------------------------------------------------------------------------

Result<ShmEndpoint::Writing*> ShmEndpoint::writing(Slot slot) {
  const auto found = std::ranges::find(writing_, slot, &Writing::slot);
  if (found != writing_.end()) return &*found;
  const std::optional<ShmSourceWords::Taken> word = shared_.words.take();
  if (!word) {
    return resource_exhausted(fmt::format("{} slots are being written to", kShmWords));
  }
  writing_.push_back({slot, *word, 0, false});
  return &writing_.back();
}

// Take a pending call that is not in use. Requires: check_room(), which counts at least the busy.
ShmEndpoint::Pending& ShmEndpoint::begin(Writing& writing, uint64_t cookie, bool notifies) {
  const auto spare = std::ranges::find(pending_, false, &Pending::busy);
  MEMPOOL_CHECK(spare != pending_.end());
  spare->busy = true;
  spare->notifies = notifies;
  spare->slot = writing.slot;
  spare->cookie = cookie;
  spare->regions.clear();
  ++writing.calls;
  ++*in_flight_;
  return *spare;
}

Status ShmEndpoint::write(const Call& call) {
  const RunPair* last = nullptr;
  for (const RunPair& pair : call.pairs) {
    const bool same = last != nullptr && last->local_region == pair.local_region;
    last = &pair;
    if (same || shared_.exports.holds(pair.local_region)) continue;
    return unsupported(fmt::format(
        "region {} is anonymous memory, which no other process can map: register it with the "
        "descriptor of a memfd to send from it, or use tcp",
        pair.local_region));
  }
  MEMPOOL_ASSIGN_OR_RETURN(Writing* const writing, this->writing(call.slot));
  Pending& pending = begin(*writing, call.cookie, false);
  ShmHeader header{.type = ShmFrameType::kList, .slot = call.slot};
  header.tag =
      uint64_t{pending.sequence} << kIndexBits | static_cast<size_t>(&pending - &pending_[0]);
  header.word = writing->word.index;
  header.expected = writing->word.expected;
  header.body_bytes = static_cast<uint32_t>(call.pairs.size() * kShmPairBytes);
  std::byte* at = link_->socket().add(header);
  for (const RunPair& pair : call.pairs) {
    encode_shm_pair(pair, at);
    at += kShmPairBytes;
    if (std::ranges::find(pending.regions, pair.local_region) == pending.regions.end()) {
      pending.regions.push_back(pair.local_region);
    }
  }
  link_->socket().flush();
  return {};
}

Status ShmEndpoint::notify(Slot slot, uint64_t cookie) {
  MEMPOOL_RETURN_IF_ERROR(check_room());
  MEMPOOL_ASSIGN_OR_RETURN(Writing* const writing, this->writing(slot));
  const Pending& pending = begin(*writing, cookie, true);
  ShmHeader header{.type = ShmFrameType::kNotify, .slot = slot};
  header.tag =
      uint64_t{pending.sequence} << kIndexBits | static_cast<size_t>(&pending - &pending_[0]);
  header.word = writing->word.index;
  header.expected = writing->word.expected;
  link_->socket().add(header);
  link_->socket().flush();
  ++counts_.network_calls;
  return {};
}

void ShmEndpoint::finish(Pending& pending, Status status) {
  pending.busy = false;
  ++pending.sequence;
  shared_.events->completed(pending.cookie, std::move(status), in_flight_);
}

void ShmEndpoint::finish_all(const Status& status) {
  for (Pending& pending : pending_) {
    if (pending.busy) finish(pending, status);
  }
}

void ShmEndpoint::stop(Slot slot) {
  const auto found = std::ranges::find(writing_, slot, &Writing::slot);
  if (found == writing_.end()) return;
  // First the word: what completes below may be reused at once.
  shared_.words.raise(found->word);
  writing_.erase(found);
  if (link_) link_->socket().stop(slot);
  for (Pending& pending : pending_) {
    if (pending.busy && pending.slot == slot) finish(pending, cancelled("the slot was stopped"));
  }
}

void ShmEndpoint::raise_all() {
  for (const Writing& writing : writing_) shared_.words.raise(writing.word);
  writing_.clear();
}

Status ShmEndpoint::on_frame(const ShmHeader& header, std::span<const std::byte>) {
  if (header.type != ShmFrameType::kAck) {
    return invalid_argument(
        fmt::format("malformed frame: type {} is not for a source", static_cast<int>(header.type)));
  }
  const size_t index = header.tag & ((1u << kIndexBits) - 1);
  if (index >= pending_.size()) {
    return invalid_argument(fmt::format("malformed frame: tag {:x} was not given", header.tag));
  }
  Pending& pending = pending_[index];
  if (!pending.busy || pending.sequence != header.tag >> kIndexBits) return {};  // was stopped
  const auto writing = std::ranges::find(writing_, pending.slot, &Writing::slot);
  MEMPOOL_CHECK(writing != writing_.end());
  writing->notified |= pending.notifies;
  if (--writing->calls == 0 && writing->notified) {
    shared_.words.raise(writing->word);
    writing_.erase(writing);
  }
  finish(pending, shm_verdict_status(header.verdict));
  return {};
}

// ---- reads -----------------------------------------------------------------------------------

Status ShmEndpoint::read(const Call& call) {
  const ShmWord* word = link_->memory().open_slot_word(call.slot.index);
  if (word == nullptr) {
    return unsupported(
        fmt::format("slot {} is past the {} that shm reads", call.slot.index, kShmReadSlots));
  }
  MEMPOOL_RETURN_IF_ERROR(list_ranges(call));
  Status ended = copy_while_open(*word, call.slot.generation);
  ++*in_flight_;
  shared_.events->completed(call.cookie, std::move(ended), in_flight_);
  return {};
}

// Requires: check_ranges().
Status ShmEndpoint::list_ranges(const Call& call) {
  const ShmPeerRegion* remote = nullptr;  // of the pair before, as mostly of this one
  const Region* local = nullptr;
  shared_.copier.begin();
  for (const RunPair& pair : call.pairs) {
    if (remote == nullptr || remote->facts.region != pair.remote_region) {
      remote = link_->memory().find(pair.remote_region);
    }
    if (local == nullptr || local->id != pair.local_region) {
      local = shared_.regions.find(pair.local_region);
    }
    const std::byte* from =
        remote == nullptr ? nullptr : remote->resolve(pair.remote_offset, pair.bytes);
    if (from == nullptr) {
      return unsupported(fmt::format(
          "region {} of peer {:x} is anonymous memory, which no other process can map; use tcp",
          pair.remote_region, peer_));
    }
    shared_.copier.watch(*remote, pair.remote_offset, pair.bytes);
    shared_.copier.add(local->base + pair.local_offset, from, pair.bytes);
  }
  return {};
}

// Gives how the read ended.
Status ShmEndpoint::copy_while_open(const ShmWord& word, uint32_t generation) {
  const uint64_t before = word.load(std::memory_order_acquire);
  if (!is_open_word(before, generation)) return cancelled("the peer has closed the slot");
  shared_.copier.copy();
  if (!shared_.copier.unchanged()) {
    return stale("the peer's blocks were freed while they were read");
  }
  if (word.load(std::memory_order_acquire) != before) {
    return cancelled("the peer closed the slot while it was read");
  }
  return {};
}

// ---- the connection --------------------------------------------------------------------------

void ShmEndpoint::close() {
  if (!link_) return;
  raise_all();
  *counts_.system_calls += link_->socket().system_calls();
  link_.reset();
  finish_all(unavailable(fmt::format("the connection to peer {:x} was closed here", peer_)));
}

void ShmEndpoint::on_closed(const Status& why) {
  const Status lost = why.with_context(fmt::format("connection to peer {:x}", peer_));
  raise_all();
  *counts_.system_calls += link_->socket().system_calls();
  link_.reset();
  finish_all(unavailable(std::string(lost.message())));
  shared_.events->lost(peer_, Direction::kOutbound, lost);
}

bool ShmEndpoint::uses(uint32_t region) const {
  return std::ranges::any_of(pending_, [&](const Pending& pending) {
    return pending.busy && std::ranges::find(pending.regions, region) != pending.regions.end();
  });
}

}  // namespace mempool
