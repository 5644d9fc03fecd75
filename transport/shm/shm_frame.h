// SPDX-License-Identifier: Apache-2.0
// Owns the bytes of a frame on an shm connection, both ways, without any socket.
//
// A frame is a header of 40 bytes and a body whose size its type fixes; little-endian:
//   header  magic u32 | version u8 | type u8 | verdict u16 | slot index u32 | slot generation u32 |
//           tag u64 | expected u64 | word u32 | body bytes u32
//   hello   dialer u64 | acceptor u64 | ticket 32 | nonce 16
//   answer  acceptor u64 | nonce 16
//   memory  kind u32 | region u32 | bytes u64 | table u64 | first block u32 | blocks u32 |
//           block stride u64; comes with one descriptor
//   pair    source region u32 | target region u32 | source offset u64 | target offset u64 |
//           bytes u32; a list has 1 to 2,048
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/auth.h"
#include "mempool/status.h"
#include "transport/transport.h"

namespace mempool {

inline constexpr uint32_t kShmMagic = 0x3153504d;  // "MPS1"
inline constexpr uint8_t kShmVersion = 1;
inline constexpr size_t kShmHeaderBytes = 40;
inline constexpr size_t kShmHelloBytes = 64;
inline constexpr size_t kShmAnswerBytes = 24;
inline constexpr size_t kShmMemoryBytes = 40;
inline constexpr size_t kShmPairBytes = 28;
/// Pieces of one side that one call may name.
inline constexpr uint32_t kShmPiecesMax = 1024;
/// Pairs that so many pieces on each side can make.
inline constexpr uint32_t kShmPairsMax = 2 * kShmPiecesMax;
inline constexpr size_t kShmBodyMax = kShmPairsMax * kShmPairBytes;
inline constexpr uint32_t kShmCallBytesMax = 4u << 20;

enum class ShmFrameType : uint8_t {
  kHello = 1,  // dialer: who, whom, and the ticket that the acceptor gave for it
  kAnswer,     // acceptor: its nonce, or a verdict that ends it
  kProof,      // dialer
  kWelcome,    // acceptor: its proof, or a verdict that ends it
  kMemory,     // tag: the sender's number for it
  kForget,     // tag: the number of memory that is not given any more
  kGiven,      // all memory of before the connection has been given
  kReady,      // and this end has mapped and populated it
  kList,       // pairs that the receiver copies
  kNotify,     // the slot's lists are before it
  kAck,        // of a list or a notification, by its tag
};

enum class ShmVerdict : uint16_t { kOk = 0, kVersion, kIncarnation, kTicket, kProof, kStale };

struct ShmHeader {
  ShmFrameType type = ShmFrameType::kAck;
  ShmVerdict verdict = ShmVerdict::kOk;
  Slot slot;
  uint64_t tag = 0;
  uint64_t expected = 0;  // what the word holds until the source raises it
  uint32_t word = 0;      // of the source's table
  uint32_t body_bytes = 0;
  bool operator==(const ShmHeader&) const = default;
};

struct ShmHello {
  uint64_t dialer = 0;
  uint64_t acceptor = 0;
  Proof ticket{};
  Nonce nonce{};
};

struct ShmAnswer {
  uint64_t acceptor = 0;
  Nonce nonce{};
};

enum class ShmMemoryKind : uint32_t {
  kWords = 1,    // the source's words for its slots
  kOpenSlots,    // the target's words for the slots it has open for the receiver
  kGenerations,  // of blocks
  kRegion,
};

/// What a descriptor holds. The last four are of a region with generations; table 0 means none.
struct ShmMemory {
  ShmMemoryKind kind = ShmMemoryKind::kRegion;
  uint32_t region = 0;
  uint64_t bytes = 0;
  uint64_t table = 0;  // number of the generations
  uint32_t first_block = 0;
  uint32_t blocks = 0;
  uint64_t block_stride = 0;
};

/// Say a refusal in words; ok for kOk.
Status shm_verdict_status(ShmVerdict verdict);

void encode_shm_header(const ShmHeader& header, std::byte* out);
void encode_shm_hello(const ShmHello& hello, std::byte* out);
void encode_shm_answer(const ShmAnswer& answer, std::byte* out);
void encode_shm_memory(const ShmMemory& memory, std::byte* out);
void encode_shm_pair(const RunPair& pair, std::byte* out);

/// Errors: kUnsupported for another version; kInvalidArgument for another magic, type, verdict or
/// for a body that the type cannot have; nothing of the frame may be used then.
Result<ShmHeader> decode_shm_header(std::span<const std::byte, kShmHeaderBytes> in);
/// Requires of each: `in` is the body of a frame of that type.
ShmHello decode_shm_hello(std::span<const std::byte> in);
ShmAnswer decode_shm_answer(std::span<const std::byte> in);
/// Errors: kInvalidArgument for no kind that there is, or no bytes.
Result<ShmMemory> decode_shm_memory(std::span<const std::byte> in);
/// Replace `out` by the list; local is the source's side. Errors: kInvalidArgument for an empty
/// pair or more than kShmCallBytesMax in all.
Status decode_shm_pairs(std::span<const std::byte> in, std::vector<RunPair>& out);

}  // namespace mempool
