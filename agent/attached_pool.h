// SPDX-License-Identifier: Apache-2.0
// Owns an engine's end of its attachment: the mapped pool, the calls, and the thread that hears
// events.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "agent/arrival_queue.h"
#include "agent/attach_stream.h"
#include "agent/attached_segments.h"
#include "agent/transfer.h"
#include "core/block_view.h"
#include "core/clock.h"
#include "core/fork_mark.h"
#include "core/gate.h"
#include "core/memory_mapping.h"
#include "mempool/attach.h"

namespace mempool {

/// Thread: safe. Calls take turns on one socket; the thread of events takes no part in them.
class AttachedPool final : public Pool, public TransferOwner {
 public:
  static Result<std::unique_ptr<AttachedPool>> open(const AttachOptions& options);
  ~AttachedPool() override;

  Result<Content> content(const ContentSpec& spec) const override;
  Result<std::vector<BlockAddress>> alloc(size_t count, Medium medium) override;
  Result<std::vector<BlockAddress>> alloc(size_t count, Medium medium, const std::string& instance,
                                          std::chrono::milliseconds deadline) override;
  Status free(std::span<const BlockAddress> blocks) override;
  Status pin(std::span<const BlockAddress> blocks) override;
  Status unpin(std::span<const BlockAddress> blocks) override;
  Result<std::span<std::byte>> piece(const BlockAddress& block, uint32_t layer, uint32_t part,
                                     uint32_t shard) const override;
  uint32_t shards() const override { return welcome_.shards; }
  const BlockLayout& layout(size_t segment, uint32_t shard) const override;
  Result<SegmentView> segment(size_t segment, uint32_t shard) const override;
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
                                        const TransferOptions& options) override;
  Result<Transfer> transfer(const std::string& target, std::span<const BlockAddress> blocks,
                            std::span<const BlockAddress> places,
                            const TransferOptions& options) override;
  Result<Transfer> fetch(const std::string& source, const Prompt& prompt,
                         const TransferOptions& options) override;
  Result<Arrival> receive(std::chrono::milliseconds timeout) override;
  Result<int> arrival_descriptor() override { return arrivals_.descriptor(); }
  void add_peer(const std::string& name, const std::string& address) override;
  void stop() override;

 private:
  AttachedPool(AttachStream calls, AttachWelcome welcome, uint32_t rank)
      : calls_(std::move(calls)), welcome_(std::move(welcome)), segments_(rank) {}

  // TransferOwner; an id is a ticket
  void cancel(TransferId transfer) override;
  Status hand_over(TransferId transfer, LayerRange layers) override;
  void layers_ready(TransferId transfer, LayerRange layers) override;
  Status check_commit(TransferId transfer) override;
  void commit(const Transfer::State& call) override;

  Status map(std::vector<Descriptor> descriptors);
  /// Ask for the segments where they are not those mapped.
  Status refresh() const;
  /// Ask and wait for the answer. Errors: the answer's; kUnavailable when the agent has gone.
  Result<AttachAnswer> ask(const AttachCall& call, std::vector<Descriptor> descriptors = {});
  /// The same for a frame of any kind, with the descriptors that come with it.
  Result<AttachFrame> exchange(const AttachCall& call, std::vector<Descriptor>& descriptors) const;
  /// Say what has no answer; to an agent that has gone, nothing.
  void tell(const AttachCall& call);
  Status ask_about(AttachOperation operation, std::span<const BlockAddress> blocks);
  Result<InsertResult> inserted(const AttachCall& call);
  /// Tell which blocks of a list are inserted as copies, empty for none, and have those held.
  Result<std::vector<bool>> begin_copy(std::span<const BlockAddress> blocks);
  /// Begin a transfer that sends blocks.
  Result<Transfer> send(AttachCall call, std::span<const BlockAddress> blocks,
                        const TransferOptions& options);
  /// Ask for what `state` stands for. Errors: those of the call that come at once.
  Status start(AttachCall& call, const TransferOptions& options,
               const std::shared_ptr<Transfer::State>& state);
  /// Give the segment of a live block in the first shard. Errors: kStale; kInvalidArgument.
  Result<const PoolSegment*> find(const BlockAddress& block) const;
  /// Where a block that find() knows lies, in all shards.
  std::vector<BlockView> views(const BlockAddress& block) const;
  /// Hash those that `verify` picks; the agent leaves out what is published, and refuses what is
  /// stale. Errors: kCorruption where ranks hold different bytes of the same heads.
  Result<std::vector<SealedSum>> sums_of(std::span<const BlockAddress> blocks) const;
  void hear();
  void on_event(AttachFrame frame);
  /// End the transfers that the agent should have ended by now.
  void end_overdue();
  void end_all(const Status& why);

  mutable std::mutex mutex_;  // guards what follows; held over a round trip
  mutable AttachStream calls_;
  mutable Status gone_;

  const AttachWelcome welcome_;
  const ForkMark made_in_;
  std::unique_ptr<MemoryMapping> generations_;
  mutable std::mutex segments_mutex_;  // of who changes what follows; taken before mutex_
  mutable AttachedSegments segments_;
  const std::shared_ptr<Gate> visitors_ = std::make_shared<Gate>();  // shared with handles
  ArrivalQueue arrivals_;

  std::mutex open_mutex_;  // guards what follows
  struct Open {
    std::shared_ptr<Transfer::State> state;  // shared with handles
    TimePoint overdue;                       // the agent ends it before
  };
  std::map<uint64_t, Open> open_;  // by ticket
  uint64_t last_ticket_ = 0;
  Status ended_;  // why no transfer can start any more

  std::unique_ptr<AttachStream> events_;
  std::thread listener_;
};

}  // namespace mempool
