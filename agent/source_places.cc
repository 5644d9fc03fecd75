// SPDX-License-Identifier: Apache-2.0
// Owns what peers hold for engines here: how it comes, which transfer takes it over, and how it
// goes back.
#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "agent/source_machine.h"
#include "agent/source_parts.h"
#include "agent/wire.h"

namespace mempool {
namespace {

Status named_twice(const BlockAddress& block) {
  return invalid_argument(fmt::format("block {} is named twice; name it once", to_string(block)));
}

}  // namespace

// What the peer does not hold for us may be an engine's there, which the peer knows.
Status SourceMachine::check_places(const std::string& peer, const TransferRequest& request) const {
  const auto target = peers_.find(peer);
  std::set<BlockAddress> named;
  for (const BlockAddress& place : request.places) {
    if (!named.insert(place).second) return named_twice(place);
    if (target == peers_.end() || target->second.incarnation != place.incarnation) {
      MEMPOOL_RETURN_IF_ERROR(check_elsewhere(peer, place));
      continue;
    }
    const auto held = target->second.held.find(place);
    if (held != target->second.held.end() && held->second != request.engine) {
      return invalid_argument(
          fmt::format("place {} is held for another engine of this agent", to_string(place)));
    }
  }
  return {};
}

Status SourceMachine::check_elsewhere(const std::string& peer, const BlockAddress& place) const {
  for (const auto& [name, other] : peers_) {
    if (name == peer || !other.held.contains(place)) continue;
    return invalid_argument(
        fmt::format("place {} is held at '{}', not at '{}'", to_string(place), name, peer));
  }
  return {};
}

void SourceMachine::take_over(Outbound& transfer, Peer& peer) {
  for (const BlockAddress& place : transfer.request.places) {
    if (peer.held.erase(place) > 0) transfer.taken.push_back(place);
  }
}

void SourceMachine::take_held(TransferId id, Outbound& transfer, const OfferReply& reply,
                              TimePoint now) {
  Peer& peer = peers_.at(transfer.peer);
  std::map<BlockAddress, SessionId> fresh;
  const bool each_new = std::ranges::all_of(reply.reserved, [&](const BlockAddress& block) {
    return block.incarnation == peer.incarnation && !peer.held.contains(block) &&
           fresh.emplace(block, transfer.request.engine).second;
  });
  if (reply.reserved.size() != transfer.request.reserve || !each_new) {
    fail(id, transfer,
         corruption(fmt::format("'{}' was asked to hold {} blocks and answered with {}, or with "
                                "some twice, held before or of another incarnation",
                                transfer.peer, transfer.request.reserve, reply.reserved.size())),
         now);
    return;
  }
  peer.held.merge(fresh);
  unpin(transfer);
  transfer.report.prepare_us = microseconds(now - transfer.started);
  transfer.report.serving = reply.reserved;
  end_call(id, transfer, {}, now);
  erase(id, now);
}

Status SourceMachine::release(SessionId engine, std::span<const BlockAddress> blocks,
                              TimePoint now) {
  if (blocks.empty()) return {};
  const BlockAddress& first = blocks.front();
  const auto holder = std::ranges::find_if(
      peers_, [&first](const auto& peer) { return peer.second.held.contains(first); });
  std::set<BlockAddress> named;
  for (const BlockAddress& block : blocks) {
    if (!named.insert(block).second) return named_twice(block);
    if (block.incarnation != first.incarnation) {
      return invalid_argument("the list has blocks of two instances; give back each one's apart");
    }
  }
  for (const BlockAddress& block : blocks) {
    if (holder != peers_.end()) {
      const auto held = holder->second.held.find(block);
      if (held != holder->second.held.end() && held->second == engine) continue;
    }
    return stale(
        fmt::format("block {} is not held for the caller at any peer; it was given back or "
                    "to a transfer, or the connection to the peer has ended",
                    to_string(block)));
  }
  tell_released(holder->first, holder->second, blocks, now);
  return {};
}

void SourceMachine::release_all(SessionId engine, TimePoint now) {
  for (auto& [name, peer] : peers_) {
    std::vector<BlockAddress> blocks;
    for (const auto& [block, holder] : peer.held) {
      if (holder == engine) blocks.push_back(block);
    }
    tell_released(name, peer, blocks, now);
  }
}

// It is said again until the peer has heard it, as the cancel of a transfer whose call has ended.
void SourceMachine::tell_released(const std::string& name, Peer& peer,
                                  std::span<const BlockAddress> blocks, TimePoint now) {
  for (const BlockAddress& block : blocks) peer.held.erase(block);
  for (size_t first = 0; first < blocks.size(); first += kOfferBlocksMax) {
    const size_t count = std::min(blocks.size() - first, kOfferBlocksMax);
    const auto some = blocks.subspan(first, count);
    Outbound& telling = transfers_[next_id_++];
    ++peer.open;
    ++releases_;
    telling.release = true;
    telling.state = State::kTelling;
    telling.peer = name;
    telling.session = peer.session;
    telling.number = peer.next_number++;
    telling.request.places.assign(some.begin(), some.end());
    telling.ended = true;
    telling.pinned = false;
    send_cancel(telling, now);
  }
}

}  // namespace mempool
