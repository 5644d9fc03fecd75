// SPDX-License-Identifier: Apache-2.0
// Tests the two holes of a copy by the other side: a source that is reused after its slot was
// stopped, and blocks that are freed and reused while they are copied. The target's question
// whether a range is admitted comes after it has looked at word and generations and before the
// first byte, so what a test does there happens in the middle of a list.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "tests/transport/transport_node.h"

namespace mempool {
namespace {

constexpr uint64_t kSourceId = 0xa1;
constexpr uint64_t kTargetId = 0xb2;
constexpr Slot kSlot{3, 1};
constexpr uint32_t kRegion = TransportNode::kRegion;
// Two arrays of blocks one behind the other, as layers and parts lie.
constexpr uint64_t kStride = 64 << 10;
constexpr uint32_t kBlocks = 8;
constexpr uint32_t kFirstBlock = 2;
constexpr uint64_t kBytes = 2 * kBlocks * kStride;

class ShmReuse : public testing::Test {
 protected:
  ShmReuse() : table_(HostMemory::create("generations", 4096).value()) {
    source_ = make_node(kSourceId);
    target_ = make_node(kTargetId);
    endpoint_ = source_->connect(*target_);
    EXPECT_TRUE(target_->transport().open_slot(kSourceId, kSlot).ok());
    std::ranges::fill(source_->memory(), std::byte{0x11});
  }

  std::unique_ptr<TransportNode> make_node(uint64_t incarnation) {
    NodeOptions options;
    options.transport = "shm";
    options.incarnation = incarnation;
    options.region_bytes = kBytes;
    options.generations = {table_.descriptor(), kFirstBlock, kBlocks, kStride};
    return std::make_unique<TransportNode>(options);
  }

  // Free a block and give it to somebody else, as the pool does.
  void reuse(TransportNode& node, uint32_t block, std::byte value) {
    raise(block);
    for (const uint64_t array : {uint64_t{0}, kBlocks * kStride}) {
      std::memset(node.memory().data() + array + block * kStride, static_cast<int>(value), kStride);
    }
  }
  void raise(uint32_t block) {
    auto* words = reinterpret_cast<std::atomic<uint64_t>*>(table_.data());
    words[kFirstBlock + block].fetch_add(1, std::memory_order_seq_cst);
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }

  // Do this once, in the middle of the next list.
  void in_the_middle(std::function<void()> action) {
    target_->admission = [this, action = std::move(action)](Slot, Operation, uint32_t, uint64_t,
                                                            uint64_t) {
      if (!std::exchange(done_, true)) action();
      return true;
    };
  }

  Status post(uint64_t cookie, const RunPair& pair, Operation operation = Operation::kWrite) {
    return endpoint_->post({operation, kSlot, cookie, {&pair, 1}});
  }
  Status end_of(uint64_t cookie) {
    EXPECT_TRUE(
        run_until({source_.get(), target_.get()}, [&] { return source_->completed(cookie); }));
    return source_->completion_of(cookie);
  }

  HostMemory table_;
  std::unique_ptr<TransportNode> source_;
  std::unique_ptr<TransportNode> target_;
  std::unique_ptr<Endpoint> endpoint_;
  bool done_ = false;
};

TEST_F(ShmReuse, nothing_is_told_of_a_slot_that_was_stopped_in_the_middle_of_a_list) {
  in_the_middle([&] {
    endpoint_->stop(kSlot);
    std::ranges::fill(source_->memory(), std::byte{0xee});  // it has ended: anything may lie there
  });
  ASSERT_TRUE(post(1, {kRegion, kRegion, 0, 0, kBytes}).ok());
  ASSERT_TRUE(endpoint_->notify(kSlot, 2).ok());
  EXPECT_EQ(end_of(1).code(), StatusCode::kCancelled);
  EXPECT_EQ(end_of(2).code(), StatusCode::kCancelled);
  settle({source_.get(), target_.get()});
  EXPECT_TRUE(done_);
  EXPECT_TRUE(target_->notified.empty());
  // Its blocks hold another's bytes now, so that no later word of the source makes them good.
  ASSERT_TRUE(endpoint_->notify(kSlot, 3).ok());
  EXPECT_EQ(end_of(3).code(), StatusCode::kStale);
  EXPECT_TRUE(target_->notified.empty());
  EXPECT_TRUE(target_->lost.empty());
}

TEST_F(ShmReuse, a_slot_that_was_stopped_before_anything_landed_can_be_written_anew) {
  ASSERT_TRUE(post(1, {kRegion, kRegion, 0, 0, 4096}).ok());
  ASSERT_TRUE(endpoint_->notify(kSlot, 2).ok());
  endpoint_->stop(kSlot);
  EXPECT_EQ(end_of(1).code(), StatusCode::kCancelled);
  ASSERT_TRUE(post(3, {kRegion, kRegion, 0, 0, 4096}).ok());
  ASSERT_TRUE(endpoint_->notify(kSlot, 4).ok());
  EXPECT_TRUE(end_of(4).ok());
  EXPECT_EQ(target_->notified, std::vector<Slot>{kSlot});
}

TEST_F(ShmReuse, an_endpoint_that_closes_in_the_middle_of_a_list_is_as_a_stop) {
  in_the_middle([&] {
    endpoint_->close();
    std::ranges::fill(source_->memory(), std::byte{0xee});
  });
  ASSERT_TRUE(post(1, {kRegion, kRegion, 0, 0, kBytes}).ok());
  ASSERT_TRUE(endpoint_->notify(kSlot, 2).ok());
  EXPECT_EQ(end_of(2).code(), StatusCode::kUnavailable);
  settle({source_.get(), target_.get()});
  EXPECT_TRUE(target_->notified.empty());
}

TEST_F(ShmReuse, nothing_is_told_of_blocks_that_were_reused_in_the_middle_of_a_list) {
  in_the_middle([&] { reuse(*source_, 5, std::byte{0xee}); });
  const uint64_t second_array = kBlocks * kStride;
  ASSERT_TRUE(post(1, {kRegion, kRegion, second_array + 5 * kStride + 100, 0, 200}).ok());
  ASSERT_TRUE(endpoint_->notify(kSlot, 2).ok());
  EXPECT_EQ(end_of(1).code(), StatusCode::kStale);
  EXPECT_EQ(end_of(2).code(), StatusCode::kStale);
  EXPECT_TRUE(done_);
  EXPECT_TRUE(target_->notified.empty());
  // The slot's next use is another transfer's.
  target_->transport().close_slot(kSourceId, kSlot);
  ASSERT_TRUE(target_->transport().open_slot(kSourceId, kSlot).ok());
  ASSERT_TRUE(post(3, {kRegion, kRegion, 0, 0, 200}).ok());
  ASSERT_TRUE(endpoint_->notify(kSlot, 4).ok());
  EXPECT_TRUE(end_of(4).ok());
  EXPECT_EQ(target_->notified, std::vector<Slot>{kSlot});
}

TEST_F(ShmReuse, every_block_under_a_range_is_watched_and_no_other) {
  // From the middle of block 6 through block 7 and the next array's 0 into its 1.
  const RunPair pair{kRegion, kRegion, 6 * kStride + 10, 0, 3 * kStride};
  for (uint32_t block = 0; block < kBlocks; ++block) {
    done_ = false;
    in_the_middle([&] { raise(block); });
    const uint64_t cookie = 100 + block;
    ASSERT_TRUE(post(cookie, pair).ok());
    const bool under = block >= 6 || block <= 1;
    EXPECT_EQ(end_of(cookie).code(), under ? StatusCode::kStale : StatusCode::kOk) << block;
  }
}

TEST_F(ShmReuse, a_read_of_blocks_that_are_reused_meanwhile_is_stale) {
  std::atomic<bool> over{false};
  std::thread owner([&] {
    while (!over) raise(2);
  });
  size_t stale = 0;
  const auto hang = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  for (uint64_t cookie = 1; stale == 0 && std::chrono::steady_clock::now() < hang; ++cookie) {
    ASSERT_TRUE(post(cookie, {kRegion, kRegion, 0, 2 * kStride, kStride}, Operation::kRead).ok());
    stale += end_of(cookie).code() == StatusCode::kStale;
    source_->completions.clear();
  }
  over = true;
  owner.join();
  EXPECT_EQ(stale, 1u);
  ASSERT_TRUE(post(1, {kRegion, kRegion, 0, 2 * kStride, kStride}, Operation::kRead).ok());
  EXPECT_TRUE(end_of(1).ok());
}

TEST_F(ShmReuse, a_slot_is_readable_while_it_is_open) {
  ASSERT_TRUE(post(1, {kRegion, kRegion, 0, 0, 10}, Operation::kRead).ok());
  EXPECT_TRUE(end_of(1).ok());
  target_->transport().close_slot(kSourceId, kSlot);
  ASSERT_TRUE(post(2, {kRegion, kRegion, 0, 0, 10}, Operation::kRead).ok());
  EXPECT_EQ(end_of(2).code(), StatusCode::kCancelled);
  ASSERT_TRUE(target_->transport().open_slot(kSourceId, {kSlot.index, 2}).ok());
  ASSERT_TRUE(post(3, {kRegion, kRegion, 0, 0, 10}, Operation::kRead).ok());
  EXPECT_EQ(end_of(3).code(), StatusCode::kCancelled) << "another generation of the slot is open";
  const RunPair pair{kRegion, kRegion, 0, 0, 10};
  EXPECT_EQ(endpoint_->post({Operation::kRead, {1u << 20, 1}, 4, {&pair, 1}}).code(),
            StatusCode::kUnsupported);
}

}  // namespace
}  // namespace mempool
