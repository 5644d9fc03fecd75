// SPDX-License-Identifier: Apache-2.0
// Owns the bytes of the control plane: frames to bytes and, verified and bounded, back.
// docs/wire_format.md shows them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
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
/// The most tokens one offer may name, and so the most blocks a list may have.
inline constexpr size_t kOfferTokensMax = 4u << 20;

/// Dialer -> acceptor, first.
struct Hello {
  uint16_t version_oldest = kWireVersionOldest;
  uint16_t version = kWireVersion;
  uint64_t features = 0;
  std::string name;
  uint64_t incarnation = 0;
  std::array<std::byte, 16> nonce{};
};

/// Acceptor -> dialer: the version to speak, and proof of the token over both nonces.
struct HelloReply {
  uint16_t version = kWireVersion;
  uint64_t features = 0;
  std::string name;
  uint64_t incarnation = 0;
  std::array<std::byte, 16> nonce{};
  Proof proof{};
};

/// Dialer -> acceptor: its proof, and what it is.
struct Introduction {
  Proof proof{};
  ContentId model;
  uint32_t tokens_per_block = 0;
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

/// Acceptor -> dialer: the session is up; this is where blocks may go.
struct Welcome {
  ContentId model;
  uint32_t tokens_per_block = 0;
  std::vector<PlanSegment> segments;
  std::vector<TransportOffer> transports;
};

/// Either way, in place of the next frame: why there is no session.
struct Refusal {
  Status status;
};

using Frame = std::variant<Hello, HelloReply, Introduction, Welcome, Refusal, Message>;

/// Give a frame's bytes, the 4-byte little-endian length word in front.
std::vector<std::byte> encode(const Frame& frame);
/// Read the bytes behind a length word. Errors: kCorruption for anything that is not a whole,
/// bounded frame of this version; it names the field.
Result<Frame> decode(std::span<const std::byte> bytes);

}  // namespace mempool
