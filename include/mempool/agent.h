// SPDX-License-Identifier: Apache-2.0
// Owns the agent: its options, its start, and what operators ask of it.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mempool/content.h"
#include "mempool/export.h"
#include "mempool/pool.h"

namespace mempool {

/// What one tenant may have of an agent's pool, in blocks. It is known by the salt of its contents
/// (ContentSpec::tenant_salt); those that no options name have no quota and no floor.
struct TenantOptions {
  std::string salt;
  /// The most blocks it may have published, those on their way to it by transfer_with_insert and
  /// fetch among them; 0: no limit. At its quota its own unpinned blocks are evicted for new ones.
  uint64_t quota_blocks = 0;
  /// Its published blocks that are evicted for no other tenant; 0: none. Its own needs may evict
  /// them, and a time to live does; alloc() is nobody's need.
  uint64_t floor_blocks = 0;
};

/// How an agent starts. `mempool agent --print-config` shows the same keys as TOML.
struct AgentOptions {
  std::string name = "agent";
  std::string listen = "127.0.0.1:0";  // host:port of the control plane; port 0 picks one
  std::string token;                   // shared secret; needed for any host but loopback
  std::string admin;                   // host:port of the pages for operators; empty: none
  std::vector<std::string> transports = {"tcp"};  // in order of preference
  // Transports without which the agent refuses to start; where there are any, data goes over these
  // alone. "rdma" stands for any by which a NIC moves the bytes.
  std::vector<std::string> require;
  std::map<std::string, std::string> transport_options;  // "tcp.streams" and the like
  std::map<std::string, std::string> peers;              // name -> host:port
  // Path where an engine of other processes attaches, which then has all arrivals; empty: none can.
  std::string engine_socket;
  bool deliver_arrivals = true;  // false: no engine receives here; arrivals are released at once

  ContentSpec content;                   // decides the size of a block
  Placement placement;                   // form and order, in every shard
  uint32_t shards = 1;                   // tensor-parallel ranks, see make_shards()
  std::vector<uint32_t> segment_blocks;  // blocks of each segment of host memory
  // Room for block indices, those of grow() and adopt() too; 0: twice the pool, at least 16,384
  // more.
  uint32_t max_blocks = 0;
  std::string huge_pages = "auto";  // auto | off: pages of 2 MiB where enough are free
  std::string verify = "sampled";   // off | sampled | always
  std::string eviction = "lru";     // lru | s3fifo | lfu | ttl
  std::chrono::milliseconds eviction_ttl{600000};  // of ttl: how long an unused block stays
  std::string admission = "all";  // all | second_hit: what insert() publishes, see InsertResult

  std::map<std::string, TenantOptions> tenants;  // by a name for operators; at most 256

  uint32_t max_inbound = 64;     // transfers a target holds open or undelivered
  uint32_t max_outbound = 1024;  // transfers a source holds open
  // Sessions a source has at once, at least 1. Where a transfer needs one more, the idle one that
  // was used least recently is closed; where none is idle, the transfer waits.
  uint32_t max_connections = 256;
  std::chrono::milliseconds heartbeat{200};
  std::chrono::milliseconds peer_timeout{2000};   // silence after which a peer is lost
  std::chrono::milliseconds fence_timeout{1000};  // for a peer that does not answer a cancel
  std::chrono::milliseconds retransmit{200};
  std::chrono::milliseconds retry_hint{10};  // said with kResourceExhausted
  std::chrono::milliseconds default_deadline{30000};
  uint64_t incarnation = 0;  // 0: drawn at start
};

/// A look into an agent for operators. Sizes in blocks unless named otherwise.
struct AgentStatus {
  std::string name;
  uint64_t incarnation = 0;
  std::string listen;  // host:port that was bound
  std::string admin;   // likewise, empty for none
  uint32_t shards = 0;
  uint64_t block_bytes = 0;        // in all shards
  uint64_t page_bytes = 0;         // of the pool's memory
  std::string page_note;           // why it has no huge pages, and the mend; empty when it has
  uint64_t total = 0;              // of all blocks, adopted ones too
  std::vector<uint32_t> segments;  // blocks of each segment of the pool's own
  std::map<std::string, uint64_t> blocks;  // by state
  uint64_t pins = 0;
  std::map<std::string, uint64_t> quarantine;  // by who may still write
  uint64_t index_blocks = 0;
  uint64_t index_nodes = 0;
  uint64_t index_bytes = 0;
  struct Tenant {
    std::string name;
    uint64_t published = 0;
    uint64_t awaited = 0;  // taken for what is on its way to it
    uint64_t quota = 0;    // 0: none
    uint64_t floor = 0;
  };
  std::vector<Tenant> tenants;  // those of the options
  struct TransportState {
    std::string name;
    std::string closed;  // why it is not used; empty: it is open
  };
  std::vector<TransportState> transports;  // those of the options
  struct Peer {
    std::string name;
    std::string role;  // "source" sends to us, "target" receives from us
    bool up = false;
    std::string transport;
    std::string route;                  // devices the transport chose; empty where it has none
    std::vector<std::string> refusals;  // transports that were not used, and why
  };
  std::vector<Peer> peers;
  struct Engine {
    uint32_t shard = 0;
    int64_t process = 0;
    bool attached = false;  // false: it has left, but may still write, or has transfers open
  };
  std::vector<Engine> engines;  // of other processes
  struct Adopted {
    std::string name;
    uint64_t blocks = 0;
    bool in_place = false;  // how they are inserted
    bool complete = false;  // all ranks have given their shard
  };
  std::vector<Adopted> adopted;  // memory of engines
  Status audit;
  Status ready;  // for new transfers; not ok while it drains or where the audit is broken
};

/// One instance's agent inside the engine's process: blocks, index and transports behind one small
/// API. Starts one thread. Thread: safe; pool and index calls run in the caller's thread under one
/// short lock.
///
/// In a fork of its process each call on it, or on a Transfer of it, gives kUnavailable, or what
/// says nothing where it gives no Status; its end there does nothing. Blocks are not mapped there:
/// what piece() gave may not be touched.
class MEMPOOL_EXPORT Agent final : public Pool {
 public:
  /// What an agent is made of; for its own parts.
  class Impl;

  /// Take the memory, bind, and start. Errors: kInvalidArgument for options that make no agent;
  /// kResourceExhausted for a pool the machine cannot give; kPermissionDenied for a bind beyond
  /// loopback without a token; kUnavailable when a required transport cannot open.
  static Result<std::unique_ptr<Agent>> start(const AgentOptions& options);
  /// Stop the thread; open transfers end with kCancelled.
  ~Agent() override;

  Result<Content> content(const ContentSpec& spec) const override;
  Result<std::vector<BlockAddress>> alloc(size_t count, Medium medium = Medium::kHost) override;
  Result<std::vector<BlockAddress>> alloc(
      size_t count, Medium medium, const std::string& instance,
      std::chrono::milliseconds deadline = std::chrono::milliseconds(0)) override;
  Status free(std::span<const BlockAddress> blocks) override;
  Status pin(std::span<const BlockAddress> blocks) override;
  Status unpin(std::span<const BlockAddress> blocks) override;
  Result<std::span<std::byte>> piece(const BlockAddress& block, uint32_t layer, uint32_t part,
                                     uint32_t shard = 0) const override;
  uint32_t shards() const override;
  const BlockLayout& layout(size_t segment = 0, uint32_t shard = 0) const override;
  Result<SegmentView> segment(size_t segment, uint32_t shard = 0) const override;
  Status read(const BlockAddress& block, std::span<std::byte> out) override;
  Status adopt(const std::string& name, const AdoptOptions& options) override;
  Result<std::vector<BlockAddress>> claim(const std::string& name,
                                          std::span<const uint32_t> blocks) override;
  Status withdraw(const std::string& name, std::chrono::milliseconds timeout) override;
  Result<InsertResult> insert(const Prompt& prompt, std::span<const BlockAddress> blocks) override;
  MatchResult match(const Prompt& prompt) override;
  size_t erase(const Prompt& prompt) override;
  Result<InsertResult> insert_keys(std::span<const std::string_view> keys,
                                   std::span<const BlockAddress> blocks) override;
  Result<std::vector<BlockAddress>> match_keys(std::span<const std::string_view> keys) override;
  Result<size_t> erase_keys(std::span<const std::string_view> keys) override;
  Result<Transfer> transfer_with_insert(const std::string& target, const Prompt& prompt,
                                        std::span<const BlockAddress> blocks,
                                        const TransferOptions& options = {}) override;
  Result<Transfer> transfer(const std::string& target, std::span<const BlockAddress> blocks,
                            std::span<const BlockAddress> places,
                            const TransferOptions& options = {}) override;
  Result<Transfer> fetch(const std::string& source, const Prompt& prompt,
                         const TransferOptions& options = {}) override;
  Result<Arrival> receive(std::chrono::milliseconds timeout) override;
  Result<int> arrival_descriptor() override;
  void add_peer(const std::string& name, const std::string& address) override;
  void stop() override;

  // ---- for operators ----
  /// Before the end: refuse offers and own transfers from now on (kUnavailable), for good, and wait
  /// until all that are open have ended. Blocks and index serve their engine as before; what has
  /// arrived waits for receive(). Errors: kDeadlineExceeded when some are still open after
  /// `timeout`; kCancelled when the agent stops. Not from on_done, which runs on the agent's
  /// thread.
  Status drain(std::chrono::milliseconds timeout);
  /// Add a segment of `blocks` to the pool, while it is in use. Peers and attached engines learn of
  /// it by themselves. Not from on_done, here and below. Errors: kUnavailable in drain(), here and
  /// below; kInvalidArgument;
  /// kResourceExhausted when the machine has not that much memory left, or past
  /// AgentOptions::max_blocks.
  Status grow(uint32_t blocks);
  /// Give the memory of the pool's last segment back, when all its blocks are free: what of it is
  /// published and not in use leaves the index at once, and with it what continues it; for the rest
  /// this waits. Errors: kDeadlineExceeded, naming what is in use, with the segment kept;
  /// kInvalidArgument for the only segment; kCancelled when the agent stops.
  Status shrink(std::chrono::milliseconds timeout);
  AgentStatus status() const;
  /// Metrics in Prometheus' text form.
  std::string metrics() const;

 private:
  explicit Agent(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mempool
