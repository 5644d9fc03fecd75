// SPDX-License-Identifier: Apache-2.0
// Owns the steps of an inbound transfer that names places in place of a prompt: holding blocks for
// a peer, taking places, and what becomes of them.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/target_machine.h"
#include "agent/wire.h"
#include "core/check.h"

namespace mempool {

// Held blocks have no term of their own, so that no peer may have them all.
Status TargetMachine::check_share(const Session& session, size_t wanted) const {
  const size_t most = (pool_.blocks() + 1) / 2;
  if (session.held.size() + wanted <= most) return {};
  return resource_exhausted(
      fmt::format("'{}' asks for {} blocks beside {} that are held for it; for one peer it is at "
                  "most {}, half the pool: use or give back some first",
                  session.info.name, wanted, session.held.size(), most),
      wanted <= most ? options_.retry_hint_ms : 0);
}

Status TargetMachine::hold(SessionId id, Session& session, const Offer& offer, OfferReply& reply) {
  if (offer.reserve > kOfferBlocksMax) {
    return invalid_argument(fmt::format("{} blocks are wanted; one call holds at most {}",
                                        offer.reserve, kOfferBlocksMax));
  }
  MEMPOOL_RETURN_IF_ERROR(check_share(session, offer.reserve));
  MEMPOOL_RETURN_IF_ERROR(index_.make_room(offer.reserve));
  MEMPOOL_RETURN_IF_ERROR(take_free(id, offer.reserve, std::nullopt, reply.reserved));
  for (const BlockAddress& block : reply.reserved) session.held[block] = offer.number;
  session.held_under[offer.number] = offer.reserve;
  return {};
}

bool TargetMachine::drop_held(Session& session, const BlockAddress& block) {
  const auto held = session.held.find(block);
  if (held == session.held.end()) return false;
  const auto under = session.held_under.find(held->second);
  if (--under->second == 0) session.held_under.erase(under);
  session.held.erase(held);
  return true;
}

Status TargetMachine::take_places(SessionId id, Session& session, const Offer& offer,
                                  OfferReply& reply) {
  MEMPOOL_RETURN_IF_ERROR(check_room(offer.places.size(), kOfferBlocksMax));
  std::vector<BlockAddress> places = offer.places;
  std::ranges::sort(places);
  if (const auto twice = std::ranges::adjacent_find(places); twice != places.end()) {
    return invalid_argument(
        fmt::format("place {} is named twice; each block needs its own", to_string(*twice)));
  }
  std::erase_if(places, [&](const BlockAddress& place) { return session.held.contains(place); });
  MEMPOOL_RETURN_IF_ERROR(pool_.lend(id, places));
  for (const BlockAddress& place : offer.places) drop_held(session, place);
  reply.reserved = offer.places;
  return {};
}

void TargetMachine::seal_places(SessionId id, Session& session, uint64_t number) {
  Inbound& inbound = session.open.at(number);
  const std::vector<BlockAddress> places = inbound.reply.reserved;
  for (const BlockAddress& place : places) pool_.seal(place.index(), std::nullopt);
  for (const SealedSum& sum : inbound.sums) {
    if (options_.verify == Verify::kOff || sum.position >= places.size()) continue;
    pool_.seal(places[sum.position].index(), sum.checksum);
  }
  if (options_.deliver_arrivals) {
    std::vector<BlockAddress> pinned;  // the others are still their engine's
    for (const BlockAddress& place : places) {
      if (pool_.pins(place.index()) == 1) pinned.push_back(place);
    }
    const Status held = pool_.pin(kCallerSession, pinned);
    MEMPOOL_CHECK(held.ok());  // they have just been sealed
    deliver(session, number, inbound, places, std::move(pinned));
  }
  const Status unpinned = pool_.unpin(id, places);
  MEMPOOL_CHECK(unpinned.ok());
  finish(id, session, number, CommitReply{number, {}, places});
}

void TargetMachine::let_go(SessionId id, Session& session, const Cancel& cancel) {
  std::vector<BlockAddress> released;
  for (const BlockAddress& block : cancel.release) {
    if (drop_held(session, block)) released.push_back(block);
  }
  if (session.held_under.erase(cancel.number) > 0) {  // its answer was lost on the way
    std::erase_if(session.held, [&](const auto& held) {
      if (held.second != cancel.number) return false;
      released.push_back(held.first);
      return true;
    });
  }
  const Status unpinned = pool_.unpin(id, released);
  MEMPOOL_CHECK(unpinned.ok());
}

}  // namespace mempool
