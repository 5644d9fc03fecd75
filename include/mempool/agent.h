// SPDX-License-Identifier: Apache-2.0
// Owns the door to the pool: the Agent, its options, and the handles that its calls give.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mempool/content.h"
#include "mempool/export.h"
#include "mempool/fence.h"
#include "mempool/status.h"
#include "mempool/types.h"

namespace mempool {

/// How an agent starts. `mempool agent --print-config` shows the same keys as TOML.
struct AgentOptions {
  std::string name = "agent";
  std::string listen = "127.0.0.1:0";  // host:port of the control plane; port 0 picks one
  std::string token;                   // shared secret; needed for any host but loopback
  std::string admin;                   // host:port of the pages for operators; empty: none
  std::vector<std::string> transports = {"tcp"};  // in order of preference
  std::vector<std::string> require;  // transports without which the agent refuses to start
  std::map<std::string, std::string> transport_options;  // "tcp.streams" and the like
  std::map<std::string, std::string> peers;              // name -> host:port
  bool deliver_arrivals = true;  // false: no engine receives here; arrivals are released at once

  ContentSpec content;                   // decides the size of a block
  Placement placement;                   // form and order, of every shard
  uint32_t shards = 1;                   // tensor-parallel ranks, see make_shards()
  std::vector<uint32_t> segment_blocks;  // blocks of each segment of host memory
  std::string huge_pages = "auto";       // auto | off: pages of 2 MiB where enough are free
  std::string verify = "sampled";        // off | sampled | always
  std::string eviction = "lru";          // lru | s3fifo | lfu | ttl
  std::chrono::milliseconds eviction_ttl{600000};  // of ttl: how long an unused block stays
  std::string admission = "all";  // all | second_hit: what insert() publishes, see InsertResult

  uint32_t max_inbound = 64;     // transfers a target holds open or undelivered
  uint32_t max_outbound = 1024;  // transfers a source holds open
  std::chrono::milliseconds heartbeat{200};
  std::chrono::milliseconds peer_timeout{2000};   // silence after which a peer is lost
  std::chrono::milliseconds fence_timeout{1000};  // for a peer that does not answer a cancel
  std::chrono::milliseconds retransmit{200};
  std::chrono::milliseconds retry_hint{10};  // said with kResourceExhausted
  std::chrono::milliseconds default_deadline{30000};
  uint64_t incarnation = 0;  // 0: drawn at start
};

/// What one transfer did, and how long its phases took.
struct TransferReport {
  std::string transport;     // "tcp"; empty when nothing had to move
  uint64_t bytes = 0;        // moved; 0 of a transfer that was stopped on the way
  uint64_t bytes_saved = 0;  // of blocks the target had already
  uint64_t tokens = 0;
  uint64_t tokens_matched = 0;  // by the target before anything moved; of a fetch, here
  uint64_t paper_calls = 0;     // pieces, unmerged
  uint64_t run_pair_calls = 0;  // ranges contiguous on both sides, merged
  uint64_t network_calls = 0;   // operations posted to the transport
  std::optional<uint64_t> system_calls = 0;  // of the source's endpoint while the transfer ran
  double prepare_us = 0;                     // call to the target's answer
  double post_us = 0;                        // to the last call posted
  double complete_us = 0;                    // to the target's acknowledgement
  std::vector<BlockAddress> serving;         // at the target, of a fetch here, in token order
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
  // On the agent's thread, or in a fetch() that finds everything here; may not block.
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
  /// Take it back; wait() then gives kCancelled, or ok when the commit was quicker.
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

/// KV that arrived. Every block is pinned for the caller; give them back by unpin().
struct Arrival {
  std::string source;     // the sender's instance name
  uint64_t transfer = 0;  // the sender's number for it
  uint64_t request_id = 0;
  std::vector<std::byte> user_data;
  Content content;
  std::vector<TokenId> tokens;
  std::vector<BlockAddress> blocks;  // in token order; the last one may be partial
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

/// A look into an agent for operators. Sizes in blocks unless named otherwise.
struct AgentStatus {
  std::string name;
  uint64_t incarnation = 0;
  std::string listen;  // host:port that was bound
  std::string admin;   // likewise, empty for none
  uint32_t shards = 0;
  uint64_t block_bytes = 0;  // in all shards
  uint64_t page_bytes = 0;   // of the pool's memory
  std::string page_note;     // why it has no huge pages, and the mend; empty when it has
  uint64_t total = 0;
  std::map<std::string, uint64_t> blocks;  // by state
  uint64_t pins = 0;
  std::map<std::string, uint64_t> quarantine;  // by who may still write
  uint64_t index_blocks = 0;
  uint64_t index_nodes = 0;
  uint64_t index_bytes = 0;
  struct Peer {
    std::string name;
    std::string role;  // "source" sends to us, "target" receives from us
    bool up = false;
    std::string transport;
    std::vector<std::string> refusals;  // transports that were not used, and why
  };
  std::vector<Peer> peers;
  Status audit;
  Status ready;  // for new transfers; not ok while it drains or where the audit is broken
};

/// One instance's agent: blocks, index and transports behind one small API. Starts one thread.
/// Thread: safe; pool and index calls run in the caller's thread under one short lock.
class MEMPOOL_EXPORT Agent {
 public:
  /// Take the memory, bind, and start. Errors: kInvalidArgument for options that make no agent;
  /// kResourceExhausted for a pool the machine cannot give; kPermissionDenied for a bind beyond
  /// loopback without a token; kUnavailable when a required transport cannot open.
  static Result<std::unique_ptr<Agent>> start(const AgentOptions& options);
  /// Stop the thread; open transfers end with kCancelled.
  ~Agent();

  // ---- contents ----
  /// Name the KV of a spec of this pool's shape. Errors: kInvalidArgument, naming the dimension
  /// that differs from the pool's.
  Result<Content> content(const ContentSpec& spec) const;

  // ---- blocks ----
  /// Take free blocks, evicting unpinned ones when needed; each is pinned for the caller, who fills
  /// it. Errors: kResourceExhausted; kUnsupported for a medium this agent does not have.
  Result<std::vector<BlockAddress>> alloc(size_t count, Medium medium = Medium::kHost);
  /// Give blocks back, all or none. Errors: kStale (a double free is one); kInvalidArgument for a
  /// block that others pin or the index holds.
  Status free(std::span<const BlockAddress> blocks);
  Status pin(std::span<const BlockAddress> blocks);
  /// Let go; the last unpin of a block that no index holds frees it.
  Status unpin(std::span<const BlockAddress> blocks);
  /// Where a shard's piece of one layer and part of a block lies: layout().piece_bytes writable
  /// bytes, valid while the caller pins the block. Errors: kStale; kInvalidArgument.
  Result<std::span<std::byte>> piece(const BlockAddress& block, uint32_t layer, uint32_t part,
                                     uint32_t shard = 0) const;
  /// Which layers and heads a shard holds, and the strides of every block of a segment in it.
  /// Requires: segment and shard are of this pool.
  const BlockLayout& layout(size_t segment = 0, uint32_t shard = 0) const;
  uint32_t shards() const;
  /// Copy a sealed block out, shard by shard, each in (layer, part) order, into
  /// shards() * layout().block_bytes bytes.
  /// Errors: kStale when it was freed meanwhile; kCorruption when its bytes are not those sealed.
  Status read(const BlockAddress& block, std::span<std::byte> out);

  // ---- index ----
  /// Seal and publish one block for each whole token block of the prompt, in order, as far as
  /// admission lets them in.
  Result<InsertResult> insert(const Prompt& prompt, std::span<const BlockAddress> blocks);
  /// Find and pin the longest published prefix.
  MatchResult match(const Prompt& prompt);
  /// Remove the prompt's last whole block and all that continues it; gives how many blocks. Blocks
  /// that were published keep their bytes until they are freed, erased or not: a peer may be
  /// reading them.
  size_t erase(const Prompt& prompt);

  // ---- keys ----
  // A flat door for engines that know only keys: opaque bytes, one key for one block, over the same
  // pool, pins and eviction. Keys and prompts never meet. A key says all of what its block holds:
  // where that depends on the tokens before, so must the key.
  // Errors of each: kInvalidArgument for more than kKeysMax keys, or one of 0 or more than
  // kKeyBytesMax bytes.
  /// Seal and publish blocks[i] under keys[i], all or none; the result is insert()'s.
  Result<InsertResult> insert_keys(std::span<const std::string_view> keys,
                                   std::span<const BlockAddress> blocks);
  /// Find and pin the blocks of the leading keys that are held, as many as the result has.
  Result<std::vector<BlockAddress>> match_keys(std::span<const std::string_view> keys);
  /// Remove those keys of the list that are held; gives how many. Pinned blocks become private.
  Result<size_t> erase_keys(std::span<const std::string_view> keys);

  // ---- transfers ----
  /// Move the KV of `prompt` to `target` and make it matchable there, in one operation. `blocks`
  /// cover all tokens, the last one maybe partly; they stay pinned until nothing reads them. By
  /// layer the target reserves its blocks now, and data moves as the returned handle is given
  /// layers.
  /// Errors at once: kNotFound for an unknown peer; kResourceExhausted for a full queue;
  /// kInvalidArgument; kStale. Later, from wait(): also kUnavailable, kDeadlineExceeded,
  /// kCancelled, kCorruption, kUnsupported.
  Result<Transfer> transfer_with_insert(const std::string& target, const Prompt& prompt,
                                        std::span<const BlockAddress> blocks,
                                        const TransferOptions& options = {});
  /// Pull: bring the leading whole blocks of `prompt` that `source` holds and this agent does not,
  /// by one-sided reads under a lease, and publish them here. After wait() is ok,
  /// report().serving has the addresses here, in token order and each pinned for the caller, as far
  /// as the prompt is covered now: perhaps not at all. Errors at once: as transfer_with_insert(),
  /// and kResourceExhausted for no room here. Later: likewise; kUnsupported where the transport
  /// cannot read.
  Result<Transfer> fetch(const std::string& source, const Prompt& prompt,
                         const TransferOptions& options = {});
  /// Wait for the next arrival. Errors: kDeadlineExceeded when none came in time; kCancelled when
  /// the agent stops.
  Result<Arrival> receive(std::chrono::milliseconds timeout);
  /// Add or change a peer by name. Connections are made on demand.
  void add_peer(const std::string& name, const std::string& address);

  // ---- for operators ----
  /// Before the end: refuse offers and own transfers from now on (kUnavailable), for good, and wait
  /// until all that are open have ended. Blocks and index serve their engine as before; what has
  /// arrived waits for receive(). Errors: kDeadlineExceeded when some are still open after
  /// `timeout`; kCancelled when the agent stops. Not from on_done, which runs on the agent's
  /// thread.
  Status drain(std::chrono::milliseconds timeout);
  AgentStatus status() const;
  /// Metrics in Prometheus' text form.
  std::string metrics() const;

 private:
  class Impl;
  explicit Agent(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mempool
