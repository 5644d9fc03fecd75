// SPDX-License-Identifier: Apache-2.0
// Owns the control messages between two agents, as the state machines see them. agent/wire turns
// them into bytes and back. The dialer of a session is the source of its transfers, the acceptor
// their target; a fetch goes the other way over the same session.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "mempool/content.h"
#include "mempool/status.h"
#include "mempool/types.h"
#include "transport/transport.h"

namespace mempool {

/// Longer waits, reservations of transfers and leases are cut to this: a duration near its type's
/// end would wrap a point in time. What a peer has held by Offer::reserve has no term: it lives as
/// long as the session, and the target bounds how much it is.
inline constexpr std::chrono::milliseconds kWaitMax = std::chrono::hours(24);

/// Source -> target: may I bring this prompt, or, to fetch, read what you have of it? Or, without
/// tokens: may I bring blocks to these places, or have places held for me? The target answers for
/// the number it carries, however often it is asked.
struct Offer {
  uint64_t number = 0;  // 1, 2, 3... per incarnation of the source, for each peer
  uint64_t request_id = 0;
  uint32_t deadline_ms = 0;  // time left; each side uses its own clock
  Medium medium = Medium::kHost;
  Content content;
  std::vector<TokenId> tokens;
  std::vector<std::byte> user_data;
  bool fetch = false;    // nothing is brought: Cancel says that the blocks have been read
  uint32_t reserve = 0;  // nothing is brought: hold so many blocks for the source
  std::vector<BlockAddress> places;  // of the blocks that are brought, in their order
  std::string trace;
};

/// A seal checksum of the block at `position` of the prompt.
struct SealedSum {
  uint32_t position = 0;
  uint64_t checksum = 0;
  bool operator==(const SealedSum&) const = default;
};

/// Target -> source: the leading blocks that are here already, and places for the rest; to a fetch,
/// the blocks that are leased to it until its Cancel. Without tokens: the places.
struct OfferReply {
  uint64_t number = 0;
  Status status;
  Slot slot;
  std::vector<BlockAddress> matched;
  std::vector<BlockAddress> reserved;
  std::vector<SealedSum> sums;  // of leased blocks, in the target's order of bytes
};

/// Source -> target: all data is on its way; publish when `notifications` lanes have said so.
struct Commit {
  uint64_t number = 0;
  uint32_t notifications = 0;
  std::vector<SealedSum> sums;
};

/// Target -> source: how the transfer ended, and who serves each block from now on.
struct CommitReply {
  uint64_t number = 0;
  Status status;
  std::vector<BlockAddress> serving;
};

/// Source -> target: it is off, and nothing of it is in flight. Also the answer to StopRequest.
/// What was held for the source under this number, and what it names of all that is, goes back.
struct Cancel {
  uint64_t number = 0;
  std::vector<BlockAddress> release;
};

/// Target -> source: the cancel is done here.
struct CancelReply {
  uint64_t number = 0;
};

/// Target -> source: stop this transfer, and say Cancel when nothing of it is in flight.
struct StopRequest {
  uint64_t number = 0;
};

/// Source -> target: nothing of it is open on this session, and nothing follows. The target ends
/// the session without a fence, and closes the connection.
struct Goodbye {};

/// Either way. `progress` counts what the sender's thread has done, so that a stuck one shows.
struct Heartbeat {
  uint64_t progress = 0;
};

using Message = std::variant<Offer, OfferReply, Commit, CommitReply, Cancel, CancelReply,
                             StopRequest, Heartbeat, Goodbye>;

/// What one agent tells another of itself when a session is made.
struct PeerInfo {
  std::string name;
  uint64_t incarnation = 0;
  ContentId model;                    // of Content::model; tokens per block are in it
  std::vector<PlanSegment> segments;  // the target's, in rank order; empty from the source
};

}  // namespace mempool
