// SPDX-License-Identifier: Apache-2.0
// Owns the proof of Agent::drain() over two agents: what it waits for, and what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "tests/agent/agent_pair.h"

namespace mempool {
namespace {

using namespace std::chrono_literals;
using testing::filled_blocks;
using ::testing::HasSubstr;
using testing::make_tokens;
using testing::small_options;
using testing::small_spec;
using testing::start_agent;
using testing::wait_until;

class DrainCall : public ::testing::Test {
 protected:
  DrainCall() {
    target_ = start_agent(small_options("decode"));
    AgentOptions options = small_options("prefill");
    options.peers["decode"] = target_->status().listen;
    source_ = start_agent(options);
    prompt_ = {source_->content(small_spec()).value(), tokens_};
    blocks_ = filled_blocks(*source_, tokens_);
  }

  /// A transfer by layer that waits for its layers, its blocks reserved at the target.
  Transfer hold_open() {
    TransferOptions options;
    options.mode = TransferMode::kByLayer;
    const Transfer held =
        source_->transfer_with_insert("decode", prompt_, blocks_, options).value();
    EXPECT_TRUE(wait_until([this] { return target_->status().blocks.at("reserved") > 0; }));
    return held;
  }
  static Status let_end(Transfer held) {
    EXPECT_TRUE(held.send_layers(0, small_spec().layers).ok());
    EXPECT_TRUE(held.commit().ok());
    return held.wait();
  }
  static bool is_draining(const Agent& agent) {
    return agent.status().ready.code() == StatusCode::kUnavailable;
  }

  const std::vector<TokenId> tokens_ = make_tokens(10);
  std::unique_ptr<Agent> target_;
  std::unique_ptr<Agent> source_;
  Prompt prompt_;
  std::vector<BlockAddress> blocks_;
};

TEST_F(DrainCall, ends_at_once_where_nothing_is_open) {
  EXPECT_TRUE(target_->status().ready.ok());
  EXPECT_TRUE(target_->drain(30s).ok());
  EXPECT_TRUE(target_->drain(30s).ok());  // for good
  EXPECT_THAT(std::string(target_->status().ready.message()), HasSubstr("0 inbound"));
}

TEST_F(DrainCall, target_refuses_new_offers_and_waits_for_the_open_one) {
  const Transfer held = hold_open();
  auto drained = std::async(std::launch::async, [this] { return target_->drain(30s); });
  ASSERT_TRUE(wait_until([this] { return is_draining(*target_); }));
  const Status refused = source_->transfer_with_insert("decode", prompt_, blocks_).value().wait();
  EXPECT_EQ(refused.code(), StatusCode::kUnavailable);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("draining"));
  EXPECT_GT(refused.retry_after_ms(), 0u);
  const Status no_lease =
      source_->fetch("decode", {prompt_.content, make_tokens(8, 50)}).value().wait();
  EXPECT_EQ(no_lease.code(), StatusCode::kUnavailable);
  EXPECT_EQ(drained.wait_for(0s), std::future_status::timeout);

  EXPECT_TRUE(let_end(held).ok());
  EXPECT_TRUE(drained.get().ok());
  EXPECT_EQ(target_->receive(0ms).value().tokens, tokens_);  // still there for its engine
}

TEST_F(DrainCall, source_starts_nothing_and_waits_for_the_open_one) {
  const Transfer held = hold_open();
  auto drained = std::async(std::launch::async, [this] { return source_->drain(30s); });
  ASSERT_TRUE(wait_until([this] { return is_draining(*source_); }));
  EXPECT_EQ(source_->transfer_with_insert("decode", prompt_, blocks_).status().code(),
            StatusCode::kUnavailable);
  EXPECT_TRUE(source_->alloc(1).ok());
  EXPECT_TRUE(let_end(held).ok());
  EXPECT_TRUE(drained.get().ok());
}

TEST_F(DrainCall, says_what_is_open_when_the_time_is_over) {
  const Transfer held = hold_open();
  const Status late = target_->drain(20ms);
  EXPECT_EQ(late.code(), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(late.message()), HasSubstr("1 inbound and 0 outbound"));
  EXPECT_TRUE(let_end(held).ok());  // it goes on until the agent ends
}

TEST_F(DrainCall, ends_with_the_agent) {
  const Transfer held = hold_open();
  Agent& draining = *target_;
  auto drained = std::async(std::launch::async, [&draining] { return draining.drain(30s); });
  ASSERT_TRUE(wait_until([this] { return is_draining(*target_); }));
  target_.reset();
  EXPECT_EQ(drained.get().code(), StatusCode::kCancelled);
}

}  // namespace
}  // namespace mempool
