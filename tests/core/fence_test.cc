// SPDX-License-Identifier: Apache-2.0
// Tests that what waits for a fence runs once, in the thread that reaches it.
#include "mempool/fence.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace mempool {
namespace {

TEST(Fence, is_reached_from_the_start_unless_pending) {
  int ran = 0;
  const Fence ready;
  EXPECT_TRUE(ready.reached());
  ready.then([&] { ++ran; });
  EXPECT_EQ(ran, 1);
  ready.signal();
  EXPECT_EQ(ran, 1);
}

TEST(Fence, runs_what_waits_once_when_a_copy_is_signalled) {
  int ran = 0;
  const Fence fence = Fence::pending();
  const Fence copy = fence;
  fence.then([&] { ++ran; });
  EXPECT_FALSE(copy.reached());
  EXPECT_EQ(ran, 0);
  copy.signal();
  copy.signal();
  EXPECT_TRUE(fence.reached());
  EXPECT_EQ(ran, 1);
  fence.then([&] { ran += 10; });
  EXPECT_EQ(ran, 11);
}

TEST(Fence, loses_nothing_between_waiting_and_signalling_threads) {
  for (int round = 0; round < 1000; ++round) {
    std::atomic<int> ran = 0;
    const Fence fence = Fence::pending();
    std::thread signals([&] { fence.signal(); });
    fence.then([&] { ++ran; });
    signals.join();
    EXPECT_EQ(ran, 1);
  }
}

}  // namespace
}  // namespace mempool
