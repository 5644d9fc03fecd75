// SPDX-License-Identifier: Apache-2.0
// Tests the local backend's gate, and its fence with the two ends on threads of their own.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "core/gate.h"
#include "tests/transport/transport_node.h"

namespace mempool {
namespace {

TEST(Gate, lets_in_until_it_is_closed) {
  Gate gate;
  EXPECT_TRUE(gate.enter());
  EXPECT_TRUE(gate.enter());
  EXPECT_FALSE(gate.leave());
  EXPECT_FALSE(gate.close()) << "one is inside";
  EXPECT_FALSE(gate.enter());
  EXPECT_TRUE(gate.leave()) << "the last one out";
  EXPECT_TRUE(gate.closed());
}

TEST(Gate, closed_while_empty_has_no_last_one_out) {
  Gate gate;
  EXPECT_TRUE(gate.enter());
  EXPECT_FALSE(gate.leave());
  EXPECT_TRUE(gate.close());
  EXPECT_FALSE(gate.enter());
}

TEST(Gate, exactly_one_learns_that_it_was_the_last) {
  for (int round = 0; round < 200; ++round) {
    Gate gate;
    std::atomic<int> last{0};
    std::atomic<uint64_t> inside{0};
    std::vector<std::jthread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] {
        while (gate.enter()) {
          inside.fetch_add(1);
          inside.fetch_sub(1);
          if (gate.leave()) last.fetch_add(1);
        }
      });
    }
    if (gate.close()) last.fetch_add(1);
    gate.close_and_wait();
    EXPECT_EQ(inside.load(), 0u);
    threads.clear();
    EXPECT_EQ(last.load(), 1);
  }
}

// Every round: the source copies patterns as fast as it can on its own thread, the target fences
// it at any moment and from then on must see its memory stand still.
TEST(LocalFence, memory_stands_still_from_the_fence_on_while_the_source_goes_on_copying) {
  for (uint64_t round = 0; round < 30; ++round) {
    TransportNode target({.transport = "local", .incarnation = 1, .region_bytes = 1 << 16});
    TransportNode source({.transport = "local", .incarnation = 2, .region_bytes = 1 << 16});
    std::unique_ptr<Endpoint> endpoint = source.connect(target);
    ASSERT_NE(endpoint, nullptr);
    std::atomic<bool> copying{false};
    std::jthread thread([&] {
      const RunPair pair{TransportNode::kRegion, TransportNode::kRegion, 0, 0, 1 << 16};
      for (uint8_t value = 1;; ++value) {
        std::memset(source.memory().data(), value, source.memory().size());
        const Status status = endpoint->post({Operation::kWrite, {1, 1}, value, {&pair, 1}});
        if (status.code() == StatusCode::kUnavailable) break;
        copying.store(true);
        source.poll();
        source.completions.clear();
      }
    });
    while (!copying.load()) std::this_thread::yield();
    target.transport().fence(2);
    ASSERT_TRUE(run_until({&target}, [&] { return !target.fenced.empty(); }));
    const std::vector<std::byte> at_fence = target.memory();
    thread.join();
    EXPECT_EQ(target.memory(), at_fence);
    EXPECT_EQ(target.fenced.size(), 1u);
    ASSERT_TRUE(run_until({&source}, [&] { return !source.lost.empty(); }));
    endpoint.reset();
  }
}

TEST(LocalFence, a_transport_may_go_while_a_peer_copies_into_it) {
  for (uint64_t round = 0; round < 30; ++round) {
    auto target = std::make_unique<TransportNode>(
        NodeOptions{.transport = "local", .incarnation = 1, .region_bytes = 1 << 16});
    TransportNode source({.transport = "local", .incarnation = 2, .region_bytes = 1 << 16});
    std::unique_ptr<Endpoint> endpoint = source.connect(*target);
    ASSERT_NE(endpoint, nullptr);
    std::atomic<bool> copying{false};
    std::jthread thread([&] {
      const RunPair pair{TransportNode::kRegion, TransportNode::kRegion, 0, 0, 1 << 16};
      for (uint64_t cookie = 1;; ++cookie) {
        if (endpoint->post({Operation::kWrite, {1, 1}, cookie, {&pair, 1}}).code() ==
            StatusCode::kUnavailable) {
          break;
        }
        (void)endpoint->notify({1, 1}, ++cookie);
        copying.store(true);
        source.poll();
        source.completions.clear();
      }
    });
    while (!copying.load()) std::this_thread::yield();
    target.reset();  // its memory too: a late copy would be seen by the sanitizers
    thread.join();
    endpoint.reset();
  }
}

TEST(LocalRegion, deregistering_waits_for_copies_and_lets_no_other_in) {
  constexpr uint64_t kBytes = uint64_t{4} << 20;  // long enough to be taken away in the middle
  for (uint64_t round = 0; round < 30; ++round) {
    TransportNode target({.transport = "local", .incarnation = 1, .region_bytes = kBytes});
    TransportNode source({.transport = "local", .incarnation = 2, .region_bytes = kBytes});
    std::unique_ptr<Endpoint> endpoint = source.connect(target);
    ASSERT_NE(endpoint, nullptr);
    std::atomic<uint64_t> posts{0};
    std::atomic<bool> let_in{true};
    std::jthread thread([&] {
      const RunPair pair{TransportNode::kRegion, TransportNode::kRegion, 0, 0, kBytes};
      for (uint8_t value = 1; let_in && posts < 100000; ++value) {
        std::memset(source.memory().data(), value, kBytes);
        ++posts;
        if (!endpoint->post({Operation::kWrite, {1, 1}, value, {&pair, 1}}).ok()) break;
        run_until({&source}, [&] { return source.completed(value); });
        let_in = source.completion_of(value).code() != StatusCode::kUnavailable;
        source.completions.clear();
      }
    });
    while (posts < 2) std::this_thread::yield();
    ASSERT_TRUE(target.transport().deregister_region(TransportNode::kRegion).ok());
    const std::vector<std::byte> at_return = target.memory();
    thread.join();
    EXPECT_FALSE(let_in);
    EXPECT_TRUE(target.memory() == at_return);
  }
}

}  // namespace
}  // namespace mempool
