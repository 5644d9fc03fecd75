// SPDX-License-Identifier: Apache-2.0
// Owns what peers hold for engines here: how it comes, which transfer takes it over, and how it
// goes back.
#include <algorithm>
#include <ranges>
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

// What is not in the table may be an engine's there, which the peer knows.
Status SourceMachine::check_places(const std::string& peer, const TransferRequest& request) const {
  std::set<BlockAddress> named;
  for (const BlockAddress& place : request.places) {
    if (!named.insert(place).second) return named_twice(place);
    const auto held = held_.find(place);
    if (held == held_.end()) continue;
    if (held->second.peer != peer) {
      return invalid_argument(fmt::format("place {} is held at '{}', not at '{}'", to_string(place),
                                          held->second.peer, peer));
    }
    if (held->second.engine != request.engine) {
      return invalid_argument(
          fmt::format("place {} is held for another engine of this agent", to_string(place)));
    }
  }
  return {};
}

void SourceMachine::take_held(TransferId id, Outbound& transfer, const OfferReply& reply,
                              TimePoint now) {
  const Peer& peer = peers_.at(transfer.peer);
  const bool all_there = std::ranges::all_of(reply.reserved, [&peer](const BlockAddress& block) {
    return block.incarnation == peer.incarnation;
  });
  if (reply.reserved.size() != transfer.request.reserve || !all_there) {
    fail(id, transfer,
         corruption(fmt::format("'{}' was asked to hold {} blocks and answered with {}, or with "
                                "some of another incarnation",
                                transfer.peer, transfer.request.reserve, reply.reserved.size())),
         now);
    return;
  }
  for (const BlockAddress& block : reply.reserved) {
    held_[block] = {transfer.request.engine, transfer.peer};
  }
  transfer.report.prepare_us = microseconds(now - transfer.started);
  transfer.report.serving = reply.reserved;
  end_call(id, transfer, {}, now);
  erase(id);
}

Status SourceMachine::release(SessionId engine, std::span<const BlockAddress> blocks,
                              TimePoint now) {
  if (blocks.empty()) return {};
  const uint64_t life = blocks.front().incarnation;
  if (!std::ranges::all_of(blocks,
                           [life](const auto& block) { return block.incarnation == life; })) {
    return invalid_argument("the list has blocks of two instances; give back each one's apart");
  }
  std::set<BlockAddress> named;
  for (const BlockAddress& block : blocks) {
    if (!named.insert(block).second) return named_twice(block);
    const auto held = held_.find(block);
    if (held == held_.end() || held->second.engine != engine) {
      return stale(
          fmt::format("block {} is not held for the caller at any peer; it was given back, "
                      "given to a transfer, or the connection to the peer has ended",
                      to_string(block)));
    }
  }
  const std::string peer = held_.at(blocks.front()).peer;
  tell_released(peer, blocks, now);
  return {};
}

void SourceMachine::release_all(SessionId engine, TimePoint now) {
  std::map<std::string, std::vector<BlockAddress>> by_peer;
  for (const auto& [block, held] : held_) {
    if (held.engine == engine) by_peer[held.peer].push_back(block);
  }
  for (const auto& [peer, blocks] : by_peer) tell_released(peer, blocks, now);
}

bool SourceMachine::holds_under(SessionId session) const {
  return std::ranges::any_of(
      held_, [&](const auto& held) { return peers_.at(held.second.peer).session == session; });
}

// It is said again until the peer has heard it, as the cancel of a transfer whose call has ended.
void SourceMachine::tell_released(const std::string& peer, std::span<const BlockAddress> blocks,
                                  TimePoint now) {
  for (const BlockAddress& block : blocks) held_.erase(block);
  Peer& state = peers_.at(peer);
  for (size_t first = 0; first < blocks.size(); first += kOfferBlocksMax) {
    const auto some =
        std::span(blocks).subspan(first).first(std::min(blocks.size() - first, kOfferBlocksMax));
    Outbound& telling = transfers_[next_id_++];
    telling.state = State::kTelling;
    telling.peer = peer;
    telling.session = state.session;
    telling.number = state.next_number++;
    telling.request.places.assign(some.begin(), some.end());
    telling.ended = true;
    telling.pinned = false;
    send_cancel(telling, now);
  }
}

}  // namespace mempool
