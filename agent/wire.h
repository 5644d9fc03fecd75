// SPDX-License-Identifier: Apache-2.0
// Owns the bytes of the control plane: frames to bytes and, verified and bounded, back.
// docs/wire_format.md shows them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "agent/message.h"
#include "core/auth.h"
#include "mempool/status.h"

namespace mempool {

/// The protocol's version; an agent speaks this one and the one before.
inline constexpr uint16_t kWireVersion = 1;
inline constexpr uint16_t kWireVersionOldest = 1;

/// The largest frame after its length word; before the peer has proven itself, far less.
inline constexpr uint32_t kFrameBytesMax = 32u << 20;
inline constexpr uint32_t kHandshakeBytesMax = 4096;
/// The most tokens one offer may name, and the most blocks an answer may.
inline constexpr size_t kOfferTokensMax = 4u << 20;
inline constexpr size_t kOfferBlocksMax = 1u << 20;
inline constexpr size_t kFetchBlocksMax = kOfferBlocksMax / 2;  // each with its sum
inline constexpr size_t kUserDataBytesMax = 64u << 10;
inline constexpr size_t kTraceBytesMax = 128;
inline constexpr size_t kNameBytesMax = 255;
inline constexpr size_t kStatusBytesMax = 1024;
/// What one Welcome may list.
inline constexpr size_t kSegmentsMax = 1024;
inline constexpr size_t kTransportsMax = 16;
inline constexpr size_t kTransportAddressBytesMax = 4096;
inline constexpr size_t kRegionKeyBytesMax = 1024;
/// The most layers, heads or tokens of a layout; far above any model, far below an overflow.
inline constexpr uint32_t kLayoutDimensionMax = 1u << 16;
inline constexpr uint64_t kVectorBytesMax = 1u << 20;

/// Dialer -> acceptor, first.
struct Hello {
  uint16_t version_oldest = kWireVersionOldest;
  uint16_t version = kWireVersion;
  uint64_t features = 0;
  std::string name;
  uint64_t incarnation = 0;
  Nonce nonce{};
};

/// Acceptor -> dialer: the version to speak, and proof of the token over both nonces.
struct HelloReply {
  uint16_t version = kWireVersion;
  uint64_t features = 0;
  std::string name;
  uint64_t incarnation = 0;
  Nonce nonce{};
  Proof proof{};
};

/// Dialer -> acceptor: its proof, and what it is.
struct Introduction {
  Proof proof{};
  ContentId model;
};

/// How to reach one of the acceptor's transports, and its keys for the acceptor's regions.
struct TransportOffer {
  std::string name;
  std::vector<std::byte> address;
  struct Key {
    uint32_t region = 0;
    std::vector<std::byte> key;
  };
  std::vector<Key> keys;
};

/// A transport of the acceptor's settings that the dialer cannot use, and why.
struct ClosedTransport {
  std::string name;
  std::string why;
};

/// Acceptor -> dialer: the session is up; this is where blocks may go.
struct Welcome {
  ContentId model;
  std::vector<PlanSegment> segments;
  std::vector<TransportOffer> transports;
  std::vector<ClosedTransport> closed;
};

/// Either way, in place of the next frame: why there is no session.
struct Refusal {
  Status status;
};

using Frame = std::variant<Hello, HelloReply, Introduction, Welcome, Refusal, Message>;

/// Give a frame's bytes, the 4-byte little-endian length word in front. The message of a status,
/// why a transport is closed and a trace are cut to their bounds, and what is not printable in them
/// becomes '?'. Requires: every list and name is within the bounds above.
std::vector<std::byte> encode(const Frame& frame);
/// Read the bytes behind a length word. Errors, naming the field: kCorruption for anything that is
/// not a whole, bounded frame of a kind this version knows; kUnsupported for a layout of several
/// groups. Requires: `bytes` starts at a multiple of 8, as new memory does.
Result<Frame> decode(std::span<const std::byte> bytes);

/// Check that a name can travel: 1 to kNameBytesMax printable ASCII characters.
/// Errors: kInvalidArgument.
Status check_name(std::string_view name);

}  // namespace mempool
