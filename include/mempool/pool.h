// SPDX-License-Identifier: Apache-2.0
// Owns the one small API of an engine: blocks, index and transfers, and the handles its calls give.
// Agent (mempool/agent.h) is it inside the engine's process, attach() (mempool/attach.h) beside it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mempool/adopt.h"
#include "mempool/content.h"
#include "mempool/export.h"
#include "mempool/fence.h"
#include "mempool/status.h"
#include "mempool/types.h"

namespace mempool {

/// What one transfer did, and how long its phases took.
struct TransferReport {
  std::string transport;     // "tcp"; empty when nothing had to move
  std::string route;         // the devices it went over; empty where the transport has none
  uint64_t bytes = 0;        // moved; 0 of a transfer that was stopped on the way
  uint64_t bytes_saved = 0;  // of blocks the target had already
  uint64_t tokens = 0;
  uint64_t tokens_matched = 0;  // by the target before anything moved; of a fetch, here
  uint64_t paper_calls = 0;     // pieces, unmerged
  uint64_t run_pair_calls = 0;  // ranges contiguous on both sides, merged
  uint64_t network_calls = 0;   // operations posted to the transport
  // Of the source's endpoint while the transfer ran, others' of the same session included:
  std::optional<uint64_t> system_calls = 0;
  uint64_t doorbells = 0;             // lists of work requests handed to a NIC
  uint64_t completions = 0;           // entries taken from a NIC's completion queues
  double prepare_us = 0;              // call to the target's answer
  double post_us = 0;                 // to the last call posted
  double complete_us = 0;             // to the target's acknowledgement
  std::vector<BlockAddress> serving;  // at the target, of a fetch here, in token order
};

enum class TransferMode : uint8_t {
  kByRequest,  // the KV of all layers is there, or will be when TransferOptions::ready is reached
  kByLayer,    // it is still being made: Transfer::send_layers() hands over layers, commit() ends
};

struct TransferOptions {
  TransferMode mode = TransferMode::kByRequest;
  Fence ready;                            // by request: when the blocks may be read
  std::chrono::milliseconds deadline{0};  // 0: AgentOptions::default_deadline
  Medium medium = Medium::kHost;          // at the target
  uint64_t request_id = 0;                // carried to the Arrival, never interpreted
  std::vector<std::byte> user_data;       // likewise; at most 64 KiB
  std::string trace;                      // W3C traceparent, carried to the target's log
  // On the agent's thread, attached on the thread of its events, or in a fetch() that finds
  // everything here; may not block.
  std::function<void(const Status&)> on_done;
};

/// A transfer under way. Copies share it. Dropping every copy does not cancel. Thread: safe.
class MEMPOOL_EXPORT Transfer {
 public:
  struct State;
  explicit Transfer(std::shared_ptr<State> state) : state_(std::move(state)) {}

  /// Block until it ended; it always does by its deadline. Gives how.
  Status wait() const;
  /// Tell whether it ended.
  bool done() const;
  /// Give a descriptor for poll(), readable once it ended; the handles', closed with the last of
  /// them. Errors: kResourceExhausted.
  Result<int> event_descriptor() const;
  /// Take it back; wait() then gives kCancelled, or ok when the commit was quicker. Where its reply
  /// is still on the way, the blocks may have been published, and arrive, all the same.
  void cancel();
  /// By layer: move these layers (numbered from 0) of all blocks once `ready` is reached. Nobody
  /// writes to them from then on. Errors: kInvalidArgument for layers that the model does not have,
  /// that were handed over before, or of a transfer that is not by layer; kUnavailable when it has
  /// ended, and wait() tells how.
  Status send_layers(uint32_t first, uint32_t count, const Fence& ready = {});
  /// By layer: all layers have been handed over; publish at the target when all are there. Hashes
  /// the blocks that `verify` picks, here or in the thread that reaches the last fence.
  /// Errors: kInvalidArgument naming a layer that was not handed over; kUnavailable as above.
  Status commit();
  /// What it did. Requires: done().
  TransferReport report() const;

 private:
  std::shared_ptr<State> state_;  // shared with the agent's thread, which ends it
};

/// KV that arrived. Every block is pinned for the caller; give them back by unpin(). By transfer()
/// there are no tokens, and a block that the engine was filling keeps the pin that it had.
struct Arrival {
  std::string source;     // the sender's instance name
  uint64_t transfer = 0;  // the sender's number for it
  uint64_t request_id = 0;
  std::vector<std::byte> user_data;
  Content content;
  std::vector<TokenId> tokens;
  std::vector<BlockAddress> blocks;  // in token order, the last one maybe partial; or the places
  uint32_t last_block_tokens = 0;    // valid tokens of the last block
  uint64_t tokens_matched = 0;       // that were here before
};

inline constexpr size_t kKeysMax = 65536;    // of one list
inline constexpr size_t kKeyBytesMax = 256;  // of one key

struct MatchResult {
  size_t tokens = 0;                 // covered, in whole blocks
  std::vector<BlockAddress> blocks;  // in token order, each pinned for the caller
};

/// What insert() did. Under admission "all" every block is admitted. Under "second_hit" those are
/// whose tokens were inserted before, in other blocks; the rest are not matchable and stay the
/// caller's, as they were before the call.
struct InsertResult {
  size_t admitted = 0;                // leading blocks of the list whose tokens are matchable now
  std::vector<BlockAddress> serving;  // per admitted block: the address that answers for its tokens
  std::vector<BlockAddress>
      duplicates;  // of the caller's blocks, those already published by another
};

/// Consecutive blocks of a pool in one shard, as they lie in memory.
struct SegmentView {
  uint32_t first_block = 0;  // BlockAddress::index() of the first; the others follow
  uint32_t blocks = 0;
  bool adopted = false;  // memory of an engine's own
  ElementType element = ElementType::kFloat16;
  BlockLayout layout;
  std::byte* data = nullptr;           // of block 0 of the segment; layout has the strides
  std::shared_ptr<const void> memory;  // keeps it mapped; null: whose memory it is does
};

/// What an engine asks of its agent. Thread: safe.
class MEMPOOL_EXPORT Pool {
 public:
  virtual ~Pool() = default;

  // ---- contents ----
  /// Name the KV of a spec of this pool's shape. Errors: kInvalidArgument, naming the dimension
  /// that differs from the pool's.
  virtual Result<Content> content(const ContentSpec& spec) const = 0;

  // ---- blocks ----
  /// Take free blocks, evicting unpinned ones when needed; each is pinned for the caller, who fills
  /// it. Errors: kResourceExhausted; kUnsupported for a medium this agent does not have.
  virtual Result<std::vector<BlockAddress>> alloc(size_t count, Medium medium = Medium::kHost) = 0;
  /// Have a peer hold free blocks for the caller, as places for transfer(); it evicts unpinned ones
  /// when needed. They stay held until a transfer takes them over, free() gives them back, or the
  /// caller's engine or the connection has ended; that is half the peer's pool at most, for all
  /// engines of this agent. Blocks until the peer answers, not from on_done;
  /// a `deadline` of 0 is AgentOptions::default_deadline. Errors: kResourceExhausted at once, with
  /// a hint, where there is no room; kNotFound for an unknown peer; kInvalidArgument for one's own
  /// or no name, or 0 blocks; kUnsupported; kUnavailable; kDeadlineExceeded.
  virtual Result<std::vector<BlockAddress>> alloc(
      size_t count, Medium medium, const std::string& instance,
      std::chrono::milliseconds deadline = std::chrono::milliseconds(0)) = 0;
  /// Give blocks back, all or none; those that a peer holds go back to it, a list for each peer.
  /// Errors: kStale (a double free is one); kInvalidArgument for a block that others pin or the
  /// index holds.
  virtual Status free(std::span<const BlockAddress> blocks) = 0;
  virtual Status pin(std::span<const BlockAddress> blocks) = 0;
  /// Let go; the last unpin of a block that no index holds frees it.
  virtual Status unpin(std::span<const BlockAddress> blocks) = 0;
  /// Where a shard's piece of one layer and part of a block lies: layout().piece_bytes writable
  /// bytes, valid while the caller pins the block. Errors: kStale; kInvalidArgument.
  virtual Result<std::span<std::byte>> piece(const BlockAddress& block, uint32_t layer,
                                             uint32_t part, uint32_t shard = 0) const = 0;
  /// Tensor-parallel ranks: every block lies in each of these shards.
  virtual uint32_t shards() const = 0;
  /// Which heads a shard holds, and the strides of every block of a segment in it. Shards differ in
  /// their heads only. Requires: the pool has that segment and shard.
  virtual const BlockLayout& layout(size_t segment = 0, uint32_t shard = 0) const = 0;
  /// Tell where a segment, in the order of its blocks, lies in a shard. As by piece(), a block's
  /// bytes are the caller's while he pins it. Errors: kNotFound for one that the pool does not
  /// have.
  virtual Result<SegmentView> segment(size_t segment, uint32_t shard = 0) const = 0;
  /// Copy a sealed block out, shard by shard, each in (layer, part) order, into
  /// shards() * layout().block_bytes bytes.
  /// Errors: kStale when it was freed meanwhile; kCorruption when its bytes are not those sealed.
  virtual Status read(const BlockAddress& block, std::span<std::byte> out) = 0;

  // ---- memory of the engine's own ----
  /// Take an engine's tensors in, under a name, as blocks of which the engine alone says what lies
  /// in them; they stay mapped where they are until withdraw() was ok or the pool is gone. Each
  /// rank of an attached engine gives its own shard, under the same name; claim() waits for all.
  /// Errors: kAlreadyExists for a name in use; kInvalidArgument for strides that overlap or leave
  /// the memory, or that differ between ranks; kPermissionDenied for memory that may be resized;
  /// kResourceExhausted past AgentOptions::max_blocks; kUnavailable while what had the name is
  /// being let go of.
  virtual Status adopt(const std::string& name, const AdoptOptions& options) = 0;
  /// Give the addresses of adopted blocks that the caller fills from now on, each pinned for it as
  /// by alloc(). One that insert() has published in place is taken out of the index, with what
  /// continues it. Errors, with none taken: kNotFound; kUnavailable while ranks have yet to adopt;
  /// kInvalidArgument; kResourceExhausted for one that is claimed, matched or leased, naming how.
  virtual Result<std::vector<BlockAddress>> claim(const std::string& name,
                                                  std::span<const uint32_t> blocks) = 0;
  /// Let go of adopted memory, from all ranks: what is published in place leaves the index at once,
  /// and when nobody reads or writes any block the memory is the engine's alone. Errors: kNotFound;
  /// kDeadlineExceeded, naming what is in use, with the memory still adopted; kUnavailable while
  /// it is being let go of already.
  virtual Status withdraw(const std::string& name, std::chrono::milliseconds timeout) = 0;

  // ---- index ----
  /// Seal and publish one block for each whole token block of the prompt, in order, as far as
  /// admission lets them in. Adopted blocks are copied into the pool's, and come back among the
  /// duplicates, unless they were adopted to be inserted in place.
  virtual Result<InsertResult> insert(const Prompt& prompt,
                                      std::span<const BlockAddress> blocks) = 0;
  /// Find and pin the longest published prefix.
  virtual MatchResult match(const Prompt& prompt) = 0;
  /// Remove the prompt's last whole block and all that continues it; gives how many blocks. Blocks
  /// that were published keep their bytes until they are freed, erased or not: a peer may be
  /// reading them.
  virtual size_t erase(const Prompt& prompt) = 0;

  // ---- keys ----
  // A flat door for engines that know only keys: opaque bytes, one key for one block, over the same
  // pool, pins and eviction. Keys and prompts never meet. A key says all of what its block holds:
  // where that depends on the tokens before, so must the key.
  // Errors of each: kInvalidArgument for more than kKeysMax keys, or one of 0 or more than
  // kKeyBytesMax bytes.
  /// Seal and publish blocks[i] under keys[i], all or none; the result is insert()'s.
  virtual Result<InsertResult> insert_keys(std::span<const std::string_view> keys,
                                           std::span<const BlockAddress> blocks) = 0;
  /// Find and pin the blocks of the leading keys that are held, as many as the result has.
  virtual Result<std::vector<BlockAddress>> match_keys(std::span<const std::string_view> keys) = 0;
  /// Remove those keys of the list that are held; gives how many. Pinned blocks become private.
  virtual Result<size_t> erase_keys(std::span<const std::string_view> keys) = 0;

  // ---- transfers ----
  /// Move the KV of `prompt` to `target` and make it matchable there, in one operation. `blocks`
  /// cover all tokens, the last one maybe partly; they stay pinned until nothing reads them. By
  /// layer the target reserves its blocks now, and data moves as the returned handle is given
  /// layers.
  /// Errors at once: kNotFound for an unknown peer; kResourceExhausted for a full queue;
  /// kInvalidArgument; kStale. Later, from wait(): also kUnavailable, kDeadlineExceeded,
  /// kCancelled, kCorruption, kUnsupported.
  virtual Result<Transfer> transfer_with_insert(const std::string& target, const Prompt& prompt,
                                                std::span<const BlockAddress> blocks,
                                                const TransferOptions& options = {}) = 0;
  /// Move blocks[i] into places[i] at `target`, whole and in no index. A place is a block that the
  /// target holds for the caller by alloc(), or one that an engine there is filling and has told
  /// the address of. All places are checked before anything moves. There it ends with an Arrival
  /// without tokens, whose blocks are the places. Held ones are pinned for who receives it; one
  /// that an engine was filling keeps the pin of who allocated it, another rank or the embedding
  /// program maybe, and gets no other. Held places are the transfer's from here on: ended badly,
  /// they are free again, but where it was refused with retry_after_ms() they stay held; an
  /// engine's then wait for its unpin() and cannot be used. Whoever knows an address may write to
  /// it: tell it only to the engine that is to fill the block. Errors: as transfer_with_insert();
  /// kInvalidArgument for lists of different lengths or a place named twice. Later also kStale and
  /// kInvalidArgument for a place that is none.
  virtual Result<Transfer> transfer(const std::string& target, std::span<const BlockAddress> blocks,
                                    std::span<const BlockAddress> places,
                                    const TransferOptions& options = {}) = 0;
  /// Pull: bring the leading whole blocks of `prompt` that `source` holds and this agent does not,
  /// by one-sided reads under a lease, and publish them here. After wait() is ok,
  /// report().serving has the addresses here, in token order and each pinned for the caller, as far
  /// as the prompt is covered now: perhaps not at all. Errors at once: as transfer_with_insert(),
  /// and kResourceExhausted for no room here. Later: likewise; kUnsupported where the transport
  /// cannot read.
  virtual Result<Transfer> fetch(const std::string& source, const Prompt& prompt,
                                 const TransferOptions& options = {}) = 0;
  /// Wait for the next arrival. Errors: kDeadlineExceeded when none came in time; kCancelled when
  /// the agent stops.
  virtual Result<Arrival> receive(std::chrono::milliseconds timeout) = 0;
  /// Give a descriptor for poll(), readable while an arrival waits or the agent has gone; the
  /// pool's, closed with it. Errors: kResourceExhausted.
  virtual Result<int> arrival_descriptor() = 0;
  /// Add or change a peer by name. Connections are made on demand.
  virtual void add_peer(const std::string& name, const std::string& address) = 0;
  /// Before the end: what waits, here and in open transfers, ends with kCancelled, or as soon as
  /// nothing reads its blocks. Those and their memory stay until the pool ends. Not from on_done.
  virtual void stop() = 0;
};

}  // namespace mempool
