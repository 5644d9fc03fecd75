// SPDX-License-Identifier: Apache-2.0
// Tests shm between two processes whose target is stopped, goes on, and is killed.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "tests/transport/pipe_bytes.h"
#include "tests/transport/transport_node.h"

namespace mempool {
namespace {

constexpr uint64_t kSourceId = 0xa1;
constexpr uint64_t kTargetId = 0xb2;
constexpr uint32_t kRegion = TransportNode::kRegion;
constexpr uint32_t kSlots = 200;  // slot i is open in generation 1
constexpr uint64_t kBytes = 4 << 20;

std::unique_ptr<TransportNode> make_node(uint64_t incarnation) {
  NodeOptions options;
  options.transport = "shm";
  options.incarnation = incarnation;
  options.region_bytes = kBytes;
  return std::make_unique<TransportNode>(options);
}

// Say where to connect, then each slot that is notified, until killed.
[[noreturn]] void serve(int to_parent) {
  const std::unique_ptr<TransportNode> node = make_node(kTargetId);
  for (uint32_t slot = 0; slot < kSlots; ++slot) {
    if (!node->transport().open_slot(kSourceId, {slot, 1}).ok()) _exit(1);
  }
  send_all(to_parent, node->transport().address_for(kSourceId).value());
  send_all(to_parent, node->transport().export_key(kRegion).value());
  for (size_t told = 0;;) {
    node->poll_or_wait();
    for (; told < node->notified.size(); ++told) {
      const uint32_t slot = node->notified[told].index;
      if (::write(to_parent, &slot, sizeof slot) != sizeof slot) _exit(1);
    }
  }
}

class ShmProcess : public testing::Test {
 protected:
  void SetUp() override {
    std::array<int, 2> pipe_ends{};
    ASSERT_EQ(pipe2(pipe_ends.data(), O_CLOEXEC), 0);
    child_ = fork();
    if (child_ == 0) serve(pipe_ends[1]);
    close(pipe_ends[1]);
    from_child_ = pipe_ends[0];
    const std::vector<std::byte> address = receive_all(from_child_);
    const std::vector<std::byte> key = receive_all(from_child_);
    source_ = make_node(kSourceId);
    source_->transport().connect(kTargetId, "", address, [&](auto connected) {
      EXPECT_TRUE(connected.ok()) << connected.status().to_string();
      if (connected.ok()) endpoint_ = std::move(connected).value();
    });
    ASSERT_TRUE(run_until({source_.get()}, [&] { return endpoint_ != nullptr; }));
    ASSERT_TRUE(endpoint_->import_key(kRegion, key).ok());
  }
  void TearDown() override {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
    close(from_child_);
  }

  void stop_child() {
    kill(child_, SIGSTOP);
    int status = 0;
    ASSERT_EQ(waitpid(child_, &status, WUNTRACED), child_);
    ASSERT_TRUE(WIFSTOPPED(status));
  }
  uint32_t next_notified() {
    uint32_t slot = kSlots;
    EXPECT_EQ(::read(from_child_, &slot, sizeof slot), static_cast<ssize_t>(sizeof slot));
    return slot;
  }
  Status post(Slot slot, uint64_t cookie) {
    const RunPair pair{kRegion, kRegion, 0, 0, kBytes};
    return endpoint_->post({Operation::kWrite, slot, cookie, {&pair, 1}});
  }
  bool completed(uint64_t cookie) {
    return run_until({source_.get()}, [&] { return source_->completed(cookie); });
  }

  pid_t child_ = -1;
  int from_child_ = -1;
  std::unique_ptr<TransportNode> source_;
  std::unique_ptr<Endpoint> endpoint_;
};

TEST_F(ShmProcess, a_stopped_target_delays_no_stop_and_tells_nothing_of_it_later) {
  uint64_t cookie = 1;
  size_t cut_off = 0;
  for (uint32_t slot = 0; slot + 1 < kSlots; slot += 2) {
    for (int list = 0; list < 3; ++list) ASSERT_TRUE(post({slot, 1}, cookie++).ok());
    const uint64_t notification = cookie++;
    ASSERT_TRUE(endpoint_->notify({slot, 1}, notification).ok());
    usleep(slot * 10);  // somewhere in the lists, or behind them
    stop_child();
    endpoint_->stop({slot, 1});
    ASSERT_TRUE(completed(notification)) << "without the target";
    const bool told = source_->completion_of(notification).ok();
    cut_off += !told;
    std::ranges::fill(source_->memory(), static_cast<std::byte>(slot));
    kill(child_, SIGCONT);
    ASSERT_TRUE(post({slot + 1, 1}, cookie++).ok());
    ASSERT_TRUE(endpoint_->notify({slot + 1, 1}, cookie).ok());
    ASSERT_TRUE(completed(cookie));
    EXPECT_TRUE(source_->completion_of(cookie++).ok());
    uint32_t heard = next_notified();
    // The target may have told before it was stopped, and its word have come too late.
    if (heard == slot) heard = next_notified();
    EXPECT_EQ(heard, slot + 1);
    const RunPair all{kRegion, kRegion, 0, 0, kBytes};
    std::ranges::fill(source_->memory(), std::byte{0xff});
    ASSERT_TRUE(endpoint_->post({Operation::kRead, {slot + 1, 1}, cookie, {&all, 1}}).ok());
    ASSERT_TRUE(completed(cookie++));
    EXPECT_TRUE(std::ranges::all_of(source_->memory(), [&](std::byte byte) {
      return byte == static_cast<std::byte>(slot);
    })) << "what was told of is whole";
  }
  EXPECT_GT(cut_off, 0u);
}

TEST_F(ShmProcess, a_killed_target_is_lost_and_its_calls_end) {
  stop_child();
  ASSERT_TRUE(post({0, 1}, 1).ok());
  kill(child_, SIGKILL);
  ASSERT_TRUE(run_until({source_.get()}, [&] { return !source_->lost.empty(); }));
  EXPECT_EQ(source_->completion_of(1).code(), StatusCode::kUnavailable);
  EXPECT_EQ(post({0, 1}, 2).code(), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace mempool
