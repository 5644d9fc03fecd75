// SPDX-License-Identifier: Apache-2.0
// Owns the checks of the C API's transfers, fences, descriptors and arrivals.
#include <poll.h>

#include <atomic>
#include <cstring>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/agent/c_pair.h"

namespace mempool {
namespace {

using testing::ArrivalHandle;
using testing::FenceHandle;
using ::testing::HasSubstr;
using testing::kPatience;
using testing::ok;
using testing::refused;
using testing::TransferHandle;

using CApiTransfer = testing::CApi;

bool becomes_readable(int descriptor, uint64_t timeout_ms) {
  pollfd waiting = {descriptor, POLLIN, 0};
  return poll(&waiting, 1, static_cast<int>(timeout_ms)) == 1;
}

TEST_F(CApiTransfer, a_transfer_brings_the_prompt_and_the_callers_words) {
  const auto blocks = filled_blocks();
  std::atomic<int> ended = -1;
  mempool_transfer_options options{};
  options.size = sizeof options;
  options.request_id = 42;
  options.user_data = "words";
  options.user_data_bytes = 5;
  options.on_done = [](void* context, mempool_status how) {
    static_cast<std::atomic<int>*>(context)->store(how);
  };
  options.context = &ended;
  const TransferHandle transfer = begin(blocks, &options);
  ASSERT_TRUE(ok(mempool_wait(transfer.get())));

  mempool_report report{};
  report.size = sizeof report;
  ASSERT_TRUE(ok(mempool_get_report(transfer.get(), &report)));
  EXPECT_STREQ(report.transport, "tcp");
  EXPECT_EQ(report.tokens, tokens_.size());
  EXPECT_EQ(report.bytes, 3 * 6 * piece_bytes());
  EXPECT_GE(report.complete_ns, report.prepare_ns);
  std::vector<mempool_block> serving(3);
  size_t count = 0;
  EXPECT_EQ(mempool_serving(transfer.get(), serving.data(), 1, &count), MEMPOOL_INVALID_ARGUMENT);
  ASSERT_TRUE(ok(mempool_serving(transfer.get(), serving.data(), 3, &count)));

  const ArrivalHandle arrival = receive();
  const mempool_arrival_view came = view(arrival);
  EXPECT_STREQ(came.source, "prefill");
  EXPECT_EQ(came.request_id, 42u);
  EXPECT_EQ(std::string(static_cast<const char*>(came.user_data), came.user_data_bytes), "words");
  ASSERT_EQ(came.prompt.token_count, tokens_.size());
  EXPECT_EQ(std::memcmp(came.prompt.tokens, tokens_.data(), tokens_.size() * 4), 0);
  EXPECT_EQ(std::memcmp(&came.prompt.content, &prompt_.content, sizeof prompt_.content), 0);
  EXPECT_EQ(came.last_block_tokens, 2u);
  EXPECT_EQ(came.tokens_matched, 0u);
  ASSERT_EQ(came.block_count, 3u);
  EXPECT_EQ(std::memcmp(came.blocks, serving.data(), count * sizeof(mempool_block)), 0);
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(holds(decode(), came.blocks[i], i)) << i;
  EXPECT_EQ(matched(decode()), 2u);
  EXPECT_TRUE(ok(mempool_unpin(decode(), came.blocks, came.block_count)));
  prefill_.reset();  // on_done has returned then
  EXPECT_EQ(ended, MEMPOOL_OK);
}

TEST_F(CApiTransfer, blocks_go_into_places_that_the_peer_holds_or_fills) {
  const auto blocks = filled_blocks();
  std::vector<mempool_block> places(3);
  ASSERT_TRUE(ok(mempool_alloc_at(prefill(), 2, MEMPOOL_HOST, "decode", 0, places.data())));
  ASSERT_TRUE(ok(mempool_alloc(decode(), 1, MEMPOOL_HOST, &places[2])));
  mempool_transfer* begun = nullptr;
  ASSERT_TRUE(ok(mempool_transfer_blocks(prefill(), "decode", blocks.data(), places.data(), 3,
                                         nullptr, &begun)));
  const TransferHandle transfer(begun);
  ASSERT_TRUE(ok(mempool_wait(transfer.get())));
  std::vector<mempool_block> serving(3);
  size_t count = 0;
  ASSERT_TRUE(ok(mempool_serving(transfer.get(), serving.data(), 3, &count)));
  const ArrivalHandle arrival = receive();
  const mempool_arrival_view came = view(arrival);
  EXPECT_EQ(came.prompt.token_count, 0u);
  ASSERT_EQ(came.block_count, 3u);
  EXPECT_EQ(std::memcmp(came.blocks, places.data(), 3 * sizeof(mempool_block)), 0);
  EXPECT_EQ(std::memcmp(serving.data(), places.data(), 3 * sizeof(mempool_block)), 0);
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(holds(decode(), came.blocks[i], i)) << i;
  EXPECT_TRUE(ok(mempool_free(decode(), came.blocks, came.block_count)));
}

TEST_F(CApiTransfer, what_a_peer_holds_is_given_back_once_and_bad_asks_are_refused) {
  mempool_block held{};
  ASSERT_TRUE(ok(mempool_alloc_at(prefill(), 1, MEMPOOL_HOST, "decode", kPatience, &held)));
  EXPECT_TRUE(ok(mempool_free(prefill(), &held, 1)));
  EXPECT_EQ(mempool_free(prefill(), &held, 1), MEMPOOL_STALE);
  EXPECT_TRUE(refused(mempool_alloc_at(prefill(), 1, MEMPOOL_HOST, nullptr, 0, &held),
                      MEMPOOL_INVALID_ARGUMENT, "the peer's name"));
  EXPECT_TRUE(refused(mempool_alloc_at(prefill(), 1, MEMPOOL_HOST, "prefill", 0, &held),
                      MEMPOOL_INVALID_ARGUMENT, "alloc() without its name"));
  EXPECT_EQ(mempool_alloc_at(prefill(), 1, MEMPOOL_HOST, "nobody", 0, &held), MEMPOOL_NOT_FOUND);
  mempool_transfer* transfer = nullptr;
  EXPECT_EQ(mempool_transfer_blocks(prefill(), "decode", nullptr, &held, 1, nullptr, &transfer),
            MEMPOOL_INVALID_ARGUMENT);
}

TEST_F(CApiTransfer, descriptors_become_readable_when_something_happened) {
  int arrives = -1;
  int ends = -1;
  ASSERT_TRUE(ok(mempool_arrival_descriptor(decode(), &arrives)));
  EXPECT_FALSE(becomes_readable(arrives, 0));
  mempool_transfer_options options{};
  options.size = sizeof options;
  options.mode = MEMPOOL_BY_LAYER;
  const TransferHandle transfer = begin(filled_blocks(), &options);
  ASSERT_TRUE(ok(mempool_transfer_descriptor(transfer.get(), &ends)));
  EXPECT_FALSE(becomes_readable(ends, 0));
  EXPECT_EQ(mempool_done(transfer.get()), 0);

  ASSERT_TRUE(ok(mempool_send_layers(transfer.get(), 0, 3, nullptr)));
  ASSERT_TRUE(ok(mempool_commit(transfer.get())));
  EXPECT_TRUE(becomes_readable(ends, kPatience));
  EXPECT_TRUE(becomes_readable(arrives, kPatience));
  EXPECT_EQ(mempool_done(transfer.get()), 1);
  receive();
  EXPECT_FALSE(becomes_readable(arrives, 0));
}

TEST_F(CApiTransfer, layers_wait_for_their_fence) {
  mempool_transfer_options options{};
  options.size = sizeof options;
  options.mode = MEMPOOL_BY_LAYER;
  std::vector<mempool_block> blocks(3);
  ASSERT_TRUE(ok(mempool_alloc(prefill(), 3, MEMPOOL_HOST, blocks.data())));
  const TransferHandle transfer = begin(blocks, &options);
  mempool_fence* made = nullptr;
  ASSERT_TRUE(ok(mempool_make_fence(&made)));
  FenceHandle fence(made);
  ASSERT_TRUE(ok(mempool_send_layers(transfer.get(), 0, 3, fence.get())));
  EXPECT_TRUE(refused(mempool_send_layers(transfer.get(), 3, 1, nullptr), MEMPOOL_INVALID_ARGUMENT,
                      "layer"));
  ASSERT_TRUE(ok(mempool_commit(transfer.get())));
  for (uint32_t layer = 0; layer < 3; ++layer) fill(blocks, layer);
  ASSERT_TRUE(ok(mempool_signal_fence(fence.get())));
  fence.reset();
  ASSERT_TRUE(ok(mempool_wait(transfer.get())));
  const ArrivalHandle arrival = receive();
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(holds(decode(), view(arrival).blocks[i], i)) << i;
}

TEST_F(CApiTransfer, a_transfer_waits_for_the_fence_of_its_options) {
  mempool_fence* made = nullptr;
  ASSERT_TRUE(ok(mempool_make_fence(&made)));
  const FenceHandle fence(made);
  mempool_transfer_options options{};
  options.size = sizeof options;
  options.ready = fence.get();
  std::vector<mempool_block> blocks(3);
  ASSERT_TRUE(ok(mempool_alloc(prefill(), 3, MEMPOOL_HOST, blocks.data())));
  const TransferHandle transfer = begin(blocks, &options);
  for (uint32_t layer = 0; layer < 3; ++layer) fill(blocks, layer);
  EXPECT_EQ(mempool_done(transfer.get()), 0);
  ASSERT_TRUE(ok(mempool_signal_fence(fence.get())));
  ASSERT_TRUE(ok(mempool_wait(transfer.get())));
  const ArrivalHandle arrival = receive();
  EXPECT_TRUE(holds(decode(), view(arrival).blocks[2], 2));
}

TEST_F(CApiTransfer, a_cancelled_transfer_says_so_everywhere) {
  struct Ended {
    std::atomic<int> how = -1;
    std::string message;
  } ended;
  mempool_transfer_options options{};
  options.size = sizeof options;
  options.mode = MEMPOOL_BY_LAYER;
  options.on_done = [](void* context, mempool_status how) {
    static_cast<Ended*>(context)->message = mempool_last_error();
    static_cast<Ended*>(context)->how = how;
  };
  options.context = &ended;
  const TransferHandle transfer = begin(filled_blocks(), &options);
  mempool_report report{};
  report.size = sizeof report;
  EXPECT_TRUE(refused(mempool_get_report(transfer.get(), &report), MEMPOOL_INVALID_ARGUMENT,
                      "mempool_wait"));
  ASSERT_TRUE(ok(mempool_cancel(transfer.get())));
  EXPECT_EQ(mempool_wait(transfer.get()), MEMPOOL_CANCELLED);
  const std::string message = mempool_last_error();
  prefill_.reset();  // on_done has returned then
  EXPECT_EQ(ended.how, MEMPOOL_CANCELLED);
  EXPECT_EQ(ended.message, message);
}

TEST_F(CApiTransfer, a_full_target_says_when_to_ask_again) {
  std::vector<mempool_block> all(32);
  ASSERT_TRUE(ok(mempool_alloc(decode(), all.size(), MEMPOOL_HOST, all.data())));
  const TransferHandle transfer = begin(filled_blocks());
  EXPECT_EQ(mempool_wait(transfer.get()), MEMPOOL_RESOURCE_EXHAUSTED);
  EXPECT_EQ(mempool_retry_after_ms(), 10u);
}

TEST_F(CApiTransfer, a_fetch_brings_what_the_other_holds) {
  const auto blocks = filled_blocks();
  ASSERT_TRUE(ok(mempool_insert(prefill(), &prompt_, blocks.data(), 2, nullptr)));
  mempool_transfer* begun = nullptr;
  ASSERT_TRUE(ok(mempool_fetch(decode(), "prefill", &prompt_, nullptr, &begun)));
  const TransferHandle transfer(begun);
  ASSERT_TRUE(ok(mempool_wait(transfer.get())));
  std::vector<mempool_block> here(2);
  size_t count = 0;
  ASSERT_TRUE(ok(mempool_serving(transfer.get(), here.data(), here.size(), &count)));
  ASSERT_EQ(count, 2u);
  EXPECT_TRUE(holds(decode(), here[1], 1));
  EXPECT_TRUE(ok(mempool_unpin(decode(), here.data(), count)));
}

TEST_F(CApiTransfer, a_drained_agent_starts_nothing_and_tells_its_metrics) {
  char* metrics = nullptr;
  ASSERT_TRUE(ok(mempool_metrics(prefill(), &metrics)));
  EXPECT_THAT(metrics, HasSubstr("mempool_blocks{state=\"free\"} 32"));
  mempool_free_text(metrics);
  const auto blocks = filled_blocks();
  EXPECT_TRUE(ok(mempool_drain(prefill(), kPatience)));
  mempool_transfer* transfer = nullptr;
  EXPECT_EQ(mempool_transfer_with_insert(prefill(), "decode", &prompt_, blocks.data(),
                                         blocks.size(), nullptr, &transfer),
            MEMPOOL_UNAVAILABLE);
  EXPECT_EQ(transfer, nullptr);
}

TEST_F(CApiTransfer, handles_outlive_their_pool) {
  const TransferHandle transfer = begin(filled_blocks());
  ASSERT_TRUE(ok(mempool_wait(transfer.get())));
  const ArrivalHandle arrival = receive();
  prefill_.reset();
  decode_.reset();
  EXPECT_EQ(mempool_done(transfer.get()), 1);
  EXPECT_TRUE(ok(mempool_wait(transfer.get())));
  EXPECT_TRUE(ok(mempool_cancel(transfer.get())));
  EXPECT_EQ(view(arrival).prompt.token_count, tokens_.size());
}

}  // namespace
}  // namespace mempool
