// SPDX-License-Identifier: Apache-2.0
// Owns the notes that two verbs transports exchange over their set-up connection.
//   dialer    connect   its queue pairs, rail by rail
//   acceptor  accepted  its own, of as many rails as both have; or refused, with why
//   dialer    rail lost   a rail does not work any more
//   acceptor  rail gone   its end of that rail is broken: nothing of it can land any more
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "transport/verbs/queue_pair.h"

namespace mempool {

/// One device at each end, and the queue pairs between them: what the other end needs of ours.
struct RailAddress {
  PortAddress port;
  std::vector<QueueAddress> queues;
};

struct ConnectNote {
  std::vector<RailAddress> rails;
};
struct AcceptedNote {
  uint16_t notifications = 0;  // that may be on their way on one queue pair
  std::vector<RailAddress> rails;
};
struct RefusedNote {
  Status status;
};
struct RailLostNote {
  uint8_t rail = 0;
};
struct RailGoneNote {
  uint8_t rail = 0;
};
using SetupNote = std::variant<ConnectNote, AcceptedNote, RefusedNote, RailLostNote, RailGoneNote>;

/// Queue pairs that one connection may have, over all of its rails; a lane each.
inline constexpr uint32_t kLanesMost = 16;

std::vector<std::byte> encode_note(const SetupNote& note);
/// Errors: kInvalidArgument for bytes that are no note; kUnsupported for another version.
Result<SetupNote> decode_note(std::span<const std::byte> bytes);

}  // namespace mempool
