// SPDX-License-Identifier: Apache-2.0
// Owns the steps of a fetch that a transfer does not have: reading leased blocks, looking at what
// was read, and giving the lease back.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/source_machine.h"
#include "agent/source_parts.h"
#include "transport/shard_pairs.h"

namespace mempool {

Status SourceMachine::check_lease(const Outbound& transfer, const OfferReply& reply) const {
  const size_t whole = transfer.request.have + transfer.request.blocks.size();
  if (reply.matched.size() > whole || !reply.reserved.empty()) {
    return corruption(
        fmt::format("'{}' answered a fetch of {} blocks with {} leased and {} reserved",
                    transfer.peer, whole, reply.matched.size(), reply.reserved.size()));
  }
  const uint64_t incarnation = peers_.at(transfer.peer).incarnation;
  for (const BlockAddress& address : reply.matched) {
    if (address.incarnation != incarnation) {
      return stale(
          fmt::format("'{}' leased {}, of another incarnation", transfer.peer, to_string(address)));
    }
  }
  return {};
}

void SourceMachine::read_leased(TransferId id, Outbound& transfer, const OfferReply& reply,
                                TimePoint now) {
  const TransferRequest& request = transfer.request;
  TransferReport& report = transfer.report;
  report.tokens_matched = uint64_t{request.have} * pool_.shape().tokens_per_block;
  report.bytes_saved = request.have * pool_.block_bytes();
  report.prepare_us = microseconds(now - transfer.started);
  transfer.retry_at = TimePoint::max();
  transfer.matched = reply.matched;
  transfer.request.sums = reply.sums;
  if (reply.matched.size() <= request.have) {  // nothing there that is not here
    end_fetch(id, transfer, now);
    return;
  }
  transfer.fetched = static_cast<uint32_t>(reply.matched.size() - request.have);
  transfer.state = State::kSending;
  const auto places = std::span(request.blocks).first(transfer.fetched);
  const auto leased = std::span(transfer.matched).subspan(request.have);
  actions_.push_back(PostData{id, transfer.session, reply.slot, Operation::kRead, indices(places),
                              indices(leased)});
  for (const LayerRange& layers : transfer.layers) actions_.push_back(PostLayers{id, layers});
  actions_.push_back(FinishData{id, {}, {}});
}

void SourceMachine::verify_fetched(TransferId id, Outbound& transfer, TimePoint now) {
  const TransferRequest& request = transfer.request;
  VerifyFetch verify{id, {}, {}, layouts_of(peers_.at(transfer.peer).info.segments)};
  for (const SealedSum& sum : request.sums) {
    if (sum.position < request.have || sum.position - request.have >= transfer.fetched) continue;
    verify.blocks.push_back(request.blocks[sum.position - request.have].index());
    verify.sums.push_back(sum.checksum);
  }
  if (verify.blocks.empty()) {
    end_fetch(id, transfer, now);
    return;
  }
  transfer.state = State::kVerifying;
  actions_.push_back(std::move(verify));
}

void SourceMachine::on_fetch_verified(TransferId id, const std::vector<uint32_t>& bad,
                                      TimePoint now) {
  auto it = transfers_.find(id);
  if (it == transfers_.end()) return;
  Outbound& transfer = it->second;
  if (transfer.state != State::kVerifying && transfer.state != State::kStopping) return;
  if (transfer.failure.ok() && !bad.empty()) {
    transfer.failure = corruption(
        fmt::format("{} of the fetched blocks came with bytes that are not those sealed at '{}'",
                    bad.size(), transfer.peer));
  }
  if (transfer.failure.ok()) {
    end_fetch(id, transfer, now);
  } else {
    quiet(id, transfer, now);
  }
}

// Nothing of it is in flight: the blocks are the caller's, and the peer hears that the lease is
// over.
void SourceMachine::end_fetch(TransferId id, Outbound& transfer, TimePoint now) {
  transfer.failure = Status();
  quiet(id, transfer, now);
}

}  // namespace mempool
