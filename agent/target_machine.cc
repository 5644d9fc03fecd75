// SPDX-License-Identifier: Apache-2.0
// Owns the steps of an inbound transfer.
#include "agent/target_machine.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/wire.h"
#include "core/check.h"

namespace mempool {

TargetMachine::TargetMachine(const Options& options, BlockPool& pool, LocalIndex& index)
    : options_(options), pool_(pool), index_(index), slots_(pool) {}

size_t TargetMachine::open() const {
  size_t count = 0;
  for (const auto& [id, session] : sessions_) count += session.open.size();
  return count;
}

Status TargetMachine::on_session_up(SessionId session, const PeerInfo& info) {
  if (sessions_.size() >= options_.max_sessions) {
    return resource_exhausted(
        fmt::format("{} sessions are open, the most this agent holds", sessions_.size()));
  }
  for (const auto& [id, other] : sessions_) {
    if (other.info.incarnation == info.incarnation) {
      return unavailable(
          fmt::format("an older session of '{}' is not over yet; try again", info.name));
    }
  }
  book_.open(info.incarnation, info.name);
  sessions_[session].info = info;
  return {};
}

AnswerTable& TargetMachine::answers(const Session& session) {
  return book_.of(session.info.incarnation);
}

void TargetMachine::on_message(SessionId id, Message message, TimePoint now) {
  auto it = sessions_.find(id);
  if (it == sessions_.end() || it->second.fencing) return;  // of a session that is over
  if (auto* offer = std::get_if<Offer>(&message)) {
    on_offer(id, it->second, std::move(*offer), now);
  } else if (const auto* commit = std::get_if<Commit>(&message)) {
    on_commit(id, it->second, *commit);
  } else if (const auto* cancel = std::get_if<Cancel>(&message)) {
    on_cancel(id, it->second, *cancel);
  } else if (std::holds_alternative<Goodbye>(message)) {
    on_goodbye(id, it->second);
  }
}

void TargetMachine::finish(SessionId id, Session& session, uint64_t number, Message answer) {
  if (!session.fencing) actions_.push_back(SendMessage{id, answer});
  answers(session).finish(number, std::move(answer));
  if (const auto it = session.open.find(number); it != session.open.end()) {
    unawait(it->second);
    session.open.erase(it);
  }
}

void TargetMachine::unawait(Inbound& inbound) {
  index_.unawait(inbound.offer.content.tenant, std::exchange(inbound.awaited, 0));
}

void TargetMachine::on_offer(SessionId id, Session& session, Offer offer, TimePoint now) {
  if (auto it = session.open.find(offer.number); it != session.open.end()) {
    actions_.push_back(SendMessage{id, it->second.reply});  // asked again: the same answer
    return;
  }
  if (const Message* answer = answers(session).find(offer.number)) {
    actions_.push_back(SendMessage{id, *answer});
    return;
  }
  OfferReply reply;
  reply.number = offer.number;
  if (answers(session).forgotten(offer.number)) {
    reply.status =
        not_found(fmt::format("transfer {} ended too long ago to be known here", offer.number));
    actions_.push_back(SendMessage{id, std::move(reply)});
    return;
  }
  reply.status = check_offer(offer);
  if (reply.status.ok()) reply.status = grant(id, session, offer, reply);
  if (!reply.status.ok() || offer.reserve > 0) {
    finish(id, session, offer.number, std::move(reply));
    return;
  }
  reply.slot = offer.fetch ? slots_.lease(id, offer.number, reply.matched)
                           : slots_.open(id, offer.number, reply.reserved);
  actions_.push_back(OpenSlot{id, reply.slot});
  actions_.push_back(SendMessage{id, reply});
  Inbound& inbound = session.open[offer.number];
  if (!offer.tokens.empty()) inbound.awaited = reply.reserved.size();
  inbound.reply = std::move(reply);
  // The source ends its call at the deadline and says Cancel; the slack lets that word come first.
  const Duration wait = std::min<Duration>(std::chrono::milliseconds(offer.deadline_ms), kWaitMax);
  inbound.deadline = now + wait + 2 * options_.retransmit;
  inbound.offer = std::move(offer);
}

Status TargetMachine::check_offer(const Offer& offer) const {
  if (refusing_) {
    return Status(StatusCode::kUnavailable, "this instance is draining; try another instance",
                  options_.retry_hint_ms);
  }
  if (offer.number == 0) return invalid_argument("an offer's number starts at 1");
  if (offer.tokens.empty() && offer.places.empty() && offer.reserve == 0) {
    return invalid_argument("the offer has no tokens");
  }
  if (offer.content.model != options_.model) {
    return invalid_argument(
        fmt::format("the offer is of another content (model {}); this instance "
                    "holds model {}",
                    to_string(offer.content.model), to_string(options_.model)));
  }
  if (offer.medium != pool_.medium()) {
    return unsupported(fmt::format("this instance has no blocks in {} memory; it has {}",
                                   to_string(offer.medium), to_string(pool_.medium())));
  }
  return {};
}

Status TargetMachine::check_room(size_t wanted, size_t most) const {
  if (wanted > most) {
    return invalid_argument(
        fmt::format("{} blocks are wanted; one transfer moves at most {}", wanted, most));
  }
  if (open() + undelivered_ < options_.max_open) return {};
  return resource_exhausted(
      fmt::format("{} transfers are open here and {} arrivals wait for receive(); the most is {} "
                  "(limits.max_inbound)",
                  open(), undelivered_, options_.max_open),
      options_.retry_hint_ms);
}

Status TargetMachine::check_pool_holds(size_t wanted) const {
  if (wanted <= pool_.blocks()) return {};
  return resource_exhausted(
      fmt::format("{} blocks are needed; the whole pool has {}", wanted, pool_.blocks()));
}

Status TargetMachine::grant(SessionId id, Session& session, const Offer& offer, OfferReply& reply) {
  if (offer.fetch) return lease(id, offer, reply);
  if (offer.reserve > 0) return hold(id, session, offer, reply);
  if (!offer.places.empty()) return take_places(id, session, offer, reply);
  return reserve(id, offer, reply);
}

Status TargetMachine::lease(SessionId id, const Offer& offer, OfferReply& reply) {
  MEMPOOL_RETURN_IF_ERROR(
      check_room(offer.tokens.size() / pool_.shape().tokens_per_block, kFetchBlocksMax));
  index_.match(id, Prompt{offer.content, offer.tokens}, reply.matched);
  if (options_.verify == Verify::kOff) return {};
  for (uint32_t position = 0; position < reply.matched.size(); ++position) {
    const std::optional<uint64_t> sum = pool_.checksum(reply.matched[position].index());
    if (sum) reply.sums.push_back({position, *sum});
  }
  return {};
}

Status TargetMachine::reserve(SessionId id, const Offer& offer, OfferReply& reply) {
  const size_t block_tokens = pool_.shape().tokens_per_block;
  const size_t wanted = (offer.tokens.size() + block_tokens - 1) / block_tokens;
  MEMPOOL_RETURN_IF_ERROR(check_room(wanted, kOfferBlocksMax));
  MEMPOOL_RETURN_IF_ERROR(check_pool_holds(wanted));
  index_.match(id, Prompt{offer.content, offer.tokens}, reply.matched);
  const size_t missing = wanted - reply.matched.size();
  std::optional<uint32_t> after;
  if (!reply.matched.empty()) after = reply.matched.back().index();
  const uint64_t tenant = offer.content.tenant;
  Status room = index_.make_room(missing, tenant, wanted);
  if (room.ok()) room = take_free(id, missing, after, reply.reserved);
  if (!room.ok()) {
    const Status unpinned = pool_.unpin(id, reply.matched);
    MEMPOOL_CHECK(unpinned.ok());
    reply.matched.clear();
    return room;
  }
  index_.await(tenant, missing);
  return {};
}

Status TargetMachine::take_free(SessionId id, size_t count, std::optional<uint32_t> after,
                                std::vector<BlockAddress>& out) {
  const Status taken = pool_.alloc(id, count, BlockState::kReserved, out, after);
  if (taken.ok()) return {};
  return resource_exhausted(std::string(taken.message()), options_.retry_hint_ms);
}

void TargetMachine::on_commit(SessionId id, Session& session, const Commit& commit) {
  auto it = session.open.find(commit.number);
  if (it == session.open.end()) {
    if (const Message* answer = answers(session).find(commit.number)) {
      actions_.push_back(SendMessage{id, *answer});
    } else {
      actions_.push_back(SendMessage{
          id, CommitReply{commit.number,
                          not_found(fmt::format("no transfer {} is open here", commit.number)),
                          {}}});
    }
    return;
  }
  Inbound& inbound = it->second;
  if (inbound.state != State::kReserved) return;  // a repeated commit, or one that came too late
  if (inbound.offer.fetch) {  // the lease goes on: only a Cancel says that nobody reads
    actions_.push_back(SendMessage{
        id, CommitReply{commit.number, invalid_argument("a fetch is never committed"), {}}});
    return;
  }
  inbound.state = State::kLanding;
  inbound.expected = inbound.reply.reserved.empty() ? 0 : std::max(commit.notifications, 1u);
  inbound.sums = commit.sums;
  // One sum a block, whatever the source says: a bad block can be set aside only once.
  std::ranges::sort(inbound.sums, {}, &SealedSum::position);
  const auto repeated = std::ranges::unique(inbound.sums, {}, &SealedSum::position);
  inbound.sums.erase(repeated.begin(), repeated.end());
  if (inbound.notified >= inbound.expected) landed(id, commit.number, inbound);
}

void TargetMachine::on_notified(SessionId id, Slot slot) {
  const SlotTable::Entry* entry = slots_.find(slot);
  if (entry == nullptr || entry->session != id) return;  // of a slot that is over
  auto it = sessions_.find(id);
  if (it == sessions_.end()) return;
  auto open = it->second.open.find(entry->number);
  if (open == it->second.open.end()) return;
  Inbound& inbound = open->second;
  ++inbound.notified;
  if (inbound.state == State::kLanding && inbound.notified >= inbound.expected) {
    landed(id, open->first, inbound);
  }
}

void TargetMachine::landed(SessionId id, uint64_t number, Inbound& inbound) {
  actions_.push_back(CloseSlot{id, inbound.reply.slot});
  slots_.close(inbound.reply.slot, inbound.reply.reserved);
  inbound.state = State::kVerifying;
  VerifyBlocks verify{id, number, {}, {}};
  const size_t matched = inbound.reply.matched.size();
  for (const SealedSum& sum : inbound.sums) {
    if (sum.position < matched || sum.position - matched >= inbound.reply.reserved.size()) continue;
    verify.blocks.push_back(inbound.reply.reserved[sum.position - matched].index());
    verify.sums.push_back(sum.checksum);
  }
  if (options_.verify != Verify::kOff && !verify.blocks.empty()) {
    actions_.push_back(std::move(verify));
  } else {
    on_verified(id, number, {});
  }
}

void TargetMachine::on_verified(SessionId id, uint64_t number, const std::vector<uint32_t>& bad) {
  auto it = sessions_.find(id);
  if (it == sessions_.end()) return;
  Session& session = it->second;
  auto open = session.open.find(number);
  if (open == session.open.end() || open->second.state != State::kVerifying) return;
  Inbound& inbound = open->second;
  if (!bad.empty()) {
    // All lanes have notified, so nothing is in flight; but what wrote wrong bytes once may again.
    for (uint32_t block : bad) {
      pool_.quarantine(id, block, session.info.name + " (checksum)");
      session.bad_blocks.push_back(block);
      std::erase_if(inbound.reply.reserved,
                    [block](const BlockAddress& address) { return address.index() == block; });
    }
    give_back(id, session, inbound);
    finish(id, session, number,
           CommitReply{number,
                       corruption(fmt::format("{} of the transfer's blocks arrived with bytes that "
                                              "are not those sealed, the first in block {}",
                                              bad.size(), bad.front())),
                       {}});
  } else if (inbound.cancelled) {
    give_back(id, session, inbound);
    finish(id, session, number, CancelReply{number});
  } else if (inbound.offer.places.empty()) {
    publish(id, session, number);
  } else {
    seal_places(id, session, number);
  }
  end_if_empty(id);
}

void TargetMachine::publish(SessionId id, Session& session, uint64_t number) {
  Inbound& inbound = session.open.at(number);
  const Offer& offer = inbound.offer;
  std::vector<BlockAddress> blocks = inbound.reply.matched;
  blocks.insert(blocks.end(), inbound.reply.reserved.begin(), inbound.reply.reserved.end());
  const size_t whole = offer.tokens.size() / pool_.shape().tokens_per_block;
  std::vector<Seal> seals;
  std::optional<uint64_t> tail_sum;
  for (const SealedSum& sum : inbound.sums) {
    if (sum.position < inbound.reply.matched.size()) continue;  // nobody has checked those
    if (sum.position < whole) seals.push_back({sum.position, sum.checksum});
    if (sum.position == whole) tail_sum = sum.checksum;
  }
  if (options_.verify == Verify::kOff) seals.clear(), tail_sum.reset();
  const Prompt prompt{offer.content, offer.tokens};
  unawait(inbound);  // from here on its quota counts what is published
  auto outcome = index_.insert(id, prompt, std::span(blocks).first(whole), seals);
  if (!outcome.ok()) {
    give_back(id, session, inbound);
    finish(id, session, number, CommitReply{number, outcome.status(), {}});
    return;
  }
  if (whole < blocks.size()) {
    pool_.seal(blocks.back().index(), tail_sum);
    if (options_.deliver_arrivals) outcome->serving.push_back(blocks.back());  // else nobody's
  }
  CommitReply reply{number, {}, hand_over(id, inbound, *outcome)};
  if (options_.deliver_arrivals) deliver(session, number, inbound, reply.serving, reply.serving);
  finish(id, session, number, std::move(reply));
}

void TargetMachine::deliver(const Session& session, uint64_t number, Inbound& inbound,
                            const std::vector<BlockAddress>& blocks,
                            std::vector<BlockAddress> pinned) {
  const uint32_t block_tokens = pool_.shape().tokens_per_block;
  Offer& offer = inbound.offer;
  Arrival arrival;
  arrival.source = session.info.name;
  arrival.transfer = number;
  arrival.request_id = offer.request_id;
  arrival.user_data = std::move(offer.user_data);
  arrival.content = offer.content;
  const auto tail = static_cast<uint32_t>(offer.tokens.size() % block_tokens);
  if (!offer.tokens.empty()) arrival.last_block_tokens = tail == 0 ? block_tokens : tail;
  arrival.tokens = std::move(offer.tokens);
  arrival.blocks = blocks;
  arrival.tokens_matched = inbound.reply.matched.size() * block_tokens;
  ++undelivered_;
  actions_.push_back(DeliverArrival{std::move(arrival), std::move(pinned)});
}

std::vector<BlockAddress> TargetMachine::hand_over(SessionId id, const Inbound& inbound,
                                                   const InsertOutcome& outcome) {
  std::vector<BlockAddress> own = inbound.reply.matched;
  own.insert(own.end(), inbound.reply.reserved.begin(), inbound.reply.reserved.end());
  if (options_.deliver_arrivals) {
    const Status pinned = pool_.pin(kCallerSession, outcome.serving);
    MEMPOOL_CHECK(pinned.ok());  // the index has just answered with them
  }
  const Status unpinned = pool_.unpin(id, own);  // frees what a published copy made needless
  MEMPOOL_CHECK(unpinned.ok());
  return outcome.serving;
}

// Nothing of it can land any more. What an engine has lent is of no use to it now, and waits for
// its unpin.
void TargetMachine::give_back(SessionId id, const Session& session, const Inbound& inbound) {
  const Status matched = pool_.unpin(id, inbound.reply.matched);
  MEMPOOL_CHECK(matched.ok());
  for (const BlockAddress& block : inbound.reply.reserved) {
    pool_.quarantine(id, block.index(), session.info.name);
    pool_.release(block.index());
  }
}

void TargetMachine::on_cancel(SessionId id, Session& session, const Cancel& cancel) {
  let_go(id, session, cancel);
  auto it = session.open.find(cancel.number);
  if (it == session.open.end()) {
    // Remembered also when the offer has yet to come: it must not reserve anything then.
    AnswerTable& known = answers(session);
    if (known.find(cancel.number) == nullptr && !known.forgotten(cancel.number)) {
      OfferReply refusal;
      refusal.number = cancel.number;
      refusal.status = cancelled(fmt::format("transfer {} was cancelled", cancel.number));
      known.finish(cancel.number, std::move(refusal));
    }
    actions_.push_back(SendMessage{id, CancelReply{cancel.number}});
    return;
  }
  Inbound& inbound = it->second;
  if (inbound.state == State::kVerifying) {
    inbound.cancelled = true;
    return;
  }
  if (inbound.state == State::kDraining) {
    for (const BlockAddress& block : inbound.reply.reserved) pool_.release(block.index());
    inbound.reply.reserved.clear();
  } else {
    actions_.push_back(CloseSlot{id, inbound.reply.slot});
    slots_.close(inbound.reply.slot, inbound.reply.reserved);
  }
  give_back(id, session, inbound);
  finish(id, session, cancel.number, CancelReply{cancel.number});
}

void TargetMachine::set_aside(SessionId id, Inbound& inbound, const std::string& writer) {
  actions_.push_back(CloseSlot{id, inbound.reply.slot});
  slots_.close(inbound.reply.slot, inbound.reply.reserved);
  for (const BlockAddress& block : inbound.reply.reserved) {
    pool_.quarantine(id, block.index(), writer);
  }
  inbound.state = State::kDraining;
}

void TargetMachine::drain(SessionId id, const Session& session, Inbound& inbound, TimePoint now) {
  set_aside(id, inbound, session.info.name);
  inbound.ask_at = now + options_.retransmit;
  inbound.fence_at = now + options_.fence_timeout;
  actions_.push_back(SendMessage{id, StopRequest{inbound.offer.number}});
}

void TargetMachine::fence(SessionId id, Session& session) {
  if (std::exchange(session.fencing, true)) return;
  for (auto& [number, inbound] : session.open) {
    if (inbound.state == State::kVerifying) {
      inbound.cancelled = true;
    } else if (inbound.state != State::kDraining) {
      set_aside(id, inbound, session.info.name);
    }
  }
  actions_.push_back(FencePeer{id});
}

void TargetMachine::on_session_down(SessionId id) {
  if (auto it = sessions_.find(id); it != sessions_.end()) fence(id, it->second);
}

// The source's word that nothing of it is in flight is what a fence would have made sure of; but of
// one that wrote wrong bytes it is not enough.
void TargetMachine::on_goodbye(SessionId id, Session& session) {
  if (!session.open.empty() || !session.bad_blocks.empty()) {
    fence(id, session);
    return;
  }
  std::vector<BlockAddress> held;  // nothing else is pinned for it
  for (const auto& [block, number] : session.held) held.push_back(block);
  const Status unpinned = pool_.unpin(id, held);
  MEMPOOL_CHECK(unpinned.ok());
  actions_.push_back(CloseSession{id});
  book_.close(session.info.incarnation);
  sessions_.erase(id);
}

void TargetMachine::on_fenced(SessionId id) {
  auto it = sessions_.find(id);
  if (it == sessions_.end() || !it->second.fencing) return;
  Session& session = it->second;
  session.fenced = true;
  std::vector<uint64_t> numbers;
  for (const auto& [number, inbound] : session.open) {
    if (inbound.state == State::kDraining) numbers.push_back(number);
  }
  for (uint64_t number : numbers) {
    Inbound& inbound = session.open.at(number);
    for (const BlockAddress& block : inbound.reply.reserved) pool_.release(block.index());
    inbound.reply.reserved.clear();
    give_back(id, session, inbound);
    finish(id, session, number,
           CommitReply{
               number, unavailable(fmt::format("transfer {} ended with its session", number)), {}});
  }
  end_if_empty(id);
}

void TargetMachine::end_if_empty(SessionId id) {
  auto it = sessions_.find(id);
  if (it == sessions_.end() || !it->second.fenced || !it->second.open.empty()) return;
  for (uint32_t block : it->second.bad_blocks) pool_.release(block);
  pool_.end_session(id);
  book_.close(it->second.info.incarnation);
  sessions_.erase(it);
}

void TargetMachine::on_time(TimePoint now) {
  for (auto& [id, session] : sessions_) {
    if (session.fencing) continue;
    bool fence_now = false;
    for (auto& [number, inbound] : session.open) {
      if (inbound.state == State::kReserved || inbound.state == State::kLanding) {
        if (inbound.deadline <= now) {
          drain(id, session, inbound, now);
        }
      } else if (inbound.state == State::kDraining) {
        if (inbound.fence_at <= now) fence_now = true;
        if (inbound.ask_at <= now) {
          inbound.ask_at = now + options_.retransmit;
          actions_.push_back(SendMessage{id, StopRequest{number}});
        }
      }
    }
    if (fence_now) fence(id, session);
  }
}

TimePoint TargetMachine::next_time() const {
  TimePoint next = TimePoint::max();
  for (const auto& [id, session] : sessions_) {
    if (session.fencing) continue;
    for (const auto& [number, inbound] : session.open) {
      if (inbound.state == State::kReserved || inbound.state == State::kLanding) {
        next = std::min(next, inbound.deadline);
      } else if (inbound.state == State::kDraining) {
        next = std::min({next, inbound.ask_at, inbound.fence_at});
      }
    }
  }
  return next;
}

}  // namespace mempool
