// SPDX-License-Identifier: Apache-2.0
// Owns the frames between an agent and an engine attached to it: calls and answers over one socket,
// events over another. Both ends are processes of one user on one host.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "agent/message.h"
#include "core/checksum.h"
#include "mempool/pool.h"

namespace mempool {

/// Agent and engine speak the same version: they are of one installation.
inline constexpr uint16_t kAttachVersion = 1;
/// The largest frame after its length word.
inline constexpr uint32_t kAttachFrameBytesMax = 64u << 20;
inline constexpr size_t kAttachTokensMax = 4u << 20;
inline constexpr size_t kAttachBlocksMax = 1u << 20;
inline constexpr size_t kAttachNameBytesMax = 255;
inline constexpr size_t kAttachSegmentsMax = 1024;

/// Engine -> agent, first.
struct AttachHello {
  uint16_t version = kAttachVersion;
  uint32_t shard = 0;
  uint32_t shards = 1;
  std::optional<Placement> placement;  // form and order that the engine expects
};

/// Agent -> engine: why not, or the pool's shape. Descriptors come along: the event socket, the
/// generation table, each segment. It answers kSegments too, with those of the segments alone.
struct AttachWelcome {
  struct Segment {
    uint32_t first_block = 0;
    uint32_t blocks = 0;
    uint64_t bytes = 0;  // to map
    uint32_t region = 0;
    bool adopted = false;  // and laid out by the strides here
    bool in_place = false;
    uint64_t block_stride = 0;
    uint64_t layer_stride = 0;
    uint64_t part_stride = 0;
  };
  Status status;
  uint64_t incarnation = 0;
  ContentId model;
  Verify verify = Verify::kOff;
  ContentSpec shape;  // without its names
  Placement placement;
  uint32_t shards = 1;
  std::vector<Segment> segments;  // shard by shard
  std::chrono::milliseconds default_deadline{0};
  uint32_t max_blocks = 0;
  uint64_t segments_version = 0;  // what the word behind the generations was
};

enum class AttachOperation : uint8_t {
  kAlloc,
  kFree,
  kPin,
  kUnpin,
  kBeginRead,
  kInsert,
  kMatch,
  kErase,
  kInsertKeys,
  kMatchKeys,
  kEraseKeys,
  kTransfer,
  kTransferTo,  // to places
  kReserve,     // `count` blocks at a peer; the transfer's end has them
  kFetch,
  kHandOver,
  kCheckCommit,
  kAddPeer,
  kSegments,
  kAdopt,  // a descriptor comes along
  kClaim,
  kWithdraw,
  kBeginCopy,
  // What follows has no answer.
  kMap,  // the pool will be mapped from now on
  kEndRead,
  kEndCopy,
  kLayersReady,
  kCommit,
  kCancel,
  kReceived,
  kDetach,  // the pool is not mapped any more
};
inline constexpr AttachOperation kFirstUnanswered = AttachOperation::kMap;

/// Engine -> agent. Transfers are named by the engine's own tickets: 1, 2, 3...
struct AttachCall {
  AttachOperation operation = AttachOperation::kAlloc;
  uint64_t ticket = 0;
  uint64_t count = 0;
  Medium medium = Medium::kHost;
  Content content;
  std::vector<TokenId> tokens;
  std::vector<BlockAddress> blocks;
  std::vector<BlockAddress> places;  // of them, at the target
  std::vector<SealedSum> sums;       // by position, each inside `blocks`
  std::vector<ContentId> keys;
  std::string name;  // of a peer
  std::string address;
  bool in_layers = false;
  LayerRange layers;
  uint64_t deadline_ms = 0;
  uint64_t request_id = 0;
  std::vector<std::byte> user_data;
  std::string trace;
  bool corrupt = false;
  std::vector<uint32_t> indices;  // of adopted blocks
  AdoptedMemory memory;           // without its place in the engine's process
  bool in_place = false;
};

struct AttachAnswer {
  Status status;
  uint64_t count = 0;
  std::vector<BlockAddress> blocks;
  std::vector<BlockAddress> duplicates;
  std::optional<uint64_t> checksum;
};

/// Agent -> engine, as an event.
struct TransferEnded {
  uint64_t ticket = 0;
  Status status;
  TransferReport report;
};

using AttachFrame =
    std::variant<AttachHello, AttachWelcome, AttachCall, AttachAnswer, TransferEnded, Arrival>;

/// Errors: kInvalidArgument for lists that one frame does not hold.
Status check_lists(size_t tokens, size_t blocks);

/// Give a frame's bytes, the 4-byte little-endian length word in front.
/// Requires: lists are within the bounds above.
std::vector<std::byte> encode_attach(const AttachFrame& frame);
/// Read the bytes behind a length word. Errors: kCorruption for what is no whole, bounded frame.
/// Requires: `bytes` starts at a multiple of 8.
Result<AttachFrame> decode_attach(std::span<const std::byte> bytes);

}  // namespace mempool
