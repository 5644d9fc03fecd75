// SPDX-License-Identifier: Apache-2.0
// Owns the checks of transfer_with_insert between two agents, over every transport and placement.
#include <unistd.h>

#include <future>

#include <gtest/gtest.h>

#include "core/listen_socket.h"
#include "mempool/agent.h"
#include "tests/agent/agent_pair.h"

namespace mempool {
namespace {

using namespace std::chrono_literals;
using testing::all_transports;
using testing::fill;
using testing::filled_blocks;
using testing::holds;
using testing::make_tokens;
using testing::small_options;
using testing::small_spec;
using testing::start_agent;
using testing::wait_until;

struct PairCase {
  std::string transport;
  BlockForm source;
  BlockForm target;
};

class TransferTest : public ::testing::TestWithParam<PairCase> {
 protected:
  void SetUp() override {
    AgentOptions source = small_options("prefill", GetParam().transport);
    source.placement.form = GetParam().source;
    AgentOptions target = small_options("decode", GetParam().transport);
    target.placement.form = GetParam().target;
    start(source, target);
  }
  void start(const AgentOptions& source, const AgentOptions& target) {
    source_ = start_agent(source);
    target_ = start_agent(target);
    ASSERT_NE(source_, nullptr);
    ASSERT_NE(target_, nullptr);
    source_->add_peer("decode", target_->status().listen);
    content_ = *make_content(small_spec());
  }
  void start_with_another_order() {
    source_.reset();
    target_.reset();
    AgentOptions target = small_options("decode", GetParam().transport);
    target.placement.order = TokenOrder::kHeadToken;
    start(small_options("prefill", GetParam().transport), target);
  }
  void send_what_changed_since_it_was_sealed() {
    const auto tokens = make_tokens(8);
    const auto blocks = filled_blocks(*source_, tokens);
    ASSERT_TRUE(source_->insert({content_, tokens}, blocks).ok());
    (*source_->piece(blocks[1], 0, 1))[3] ^= std::byte{4};
    EXPECT_EQ(send(tokens, blocks).code(), StatusCode::kCorruption);
    EXPECT_EQ(target_->match({content_, tokens}).tokens, 0u);
    EXPECT_EQ(source_->match({content_, tokens}).tokens, 4u);  // it serves nobody again
  }
  void TearDown() override {
    for (Agent* agent : {source_.get(), target_.get()}) {
      if (agent == nullptr) continue;
      const AgentStatus status = agent->status();
      EXPECT_TRUE(status.audit.ok()) << status.audit.to_string();
    }
  }
  Status send(std::span<const TokenId> tokens, std::span<const BlockAddress> blocks,
              TransferReport* report = nullptr) {
    auto transfer = source_->transfer_with_insert("decode", {content_, tokens}, blocks);
    if (!transfer.ok()) return transfer.status();
    const Status status = transfer->wait();
    if (report != nullptr) *report = transfer->report();
    return status;
  }

  std::unique_ptr<Agent> source_;
  std::unique_ptr<Agent> target_;
  Content content_;
};

TEST_P(TransferTest, what_arrives_is_matchable_with_the_right_bytes) {
  const auto tokens = make_tokens(22);  // five blocks and a tail of two tokens
  const auto blocks = filled_blocks(*source_, tokens);
  TransferReport report;
  const Status sent = send(tokens, blocks, &report);
  ASSERT_TRUE(sent.ok()) << sent.to_string();
  EXPECT_EQ(report.bytes, 6 * source_->layout().block_bytes);
  EXPECT_EQ(report.transport, GetParam().transport);
  const auto arrival = target_->receive(5s);
  ASSERT_TRUE(arrival.ok()) << arrival.status().to_string();
  EXPECT_EQ(arrival->source, "prefill");
  EXPECT_EQ(arrival->tokens, tokens);
  EXPECT_EQ(arrival->last_block_tokens, 2u);
  EXPECT_EQ(arrival->blocks, report.serving);
  ASSERT_EQ(arrival->blocks.size(), 6u);
  for (size_t i = 0; i < 6; ++i) EXPECT_TRUE(holds(*target_, arrival->blocks[i], tokens[i * 4]));
  const MatchResult match = target_->match({content_, tokens});
  EXPECT_EQ(match.tokens, 20u);
  EXPECT_TRUE(std::equal(match.blocks.begin(), match.blocks.end(), arrival->blocks.begin()));
  EXPECT_TRUE(target_->unpin(match.blocks).ok());
  EXPECT_TRUE(target_->unpin(arrival->blocks).ok());
  EXPECT_EQ(target_->status().blocks.at("published"), 5u);
  EXPECT_EQ(target_->status().pins, 0u);
  EXPECT_TRUE(source_->free(blocks).ok());  // nothing holds the sources any more
}

TEST_P(TransferTest, what_the_target_has_is_not_sent_again) {
  const auto tokens = make_tokens(24);
  const auto blocks = filled_blocks(*source_, tokens);
  ASSERT_TRUE(send(std::span(tokens).first(12), std::span(blocks).first(3)).ok());
  TransferReport report;
  ASSERT_TRUE(send(tokens, blocks, &report).ok());
  EXPECT_EQ(report.tokens_matched, 12u);
  EXPECT_EQ(report.bytes_saved, 3 * source_->layout().block_bytes);
  EXPECT_EQ(report.bytes, 3 * source_->layout().block_bytes);
  ASSERT_TRUE(send(tokens, blocks, &report).ok());
  EXPECT_EQ(report.bytes, 0u);
  for (int i = 0; i < 3; ++i) {
    const auto arrival = target_->receive(5s);
    ASSERT_TRUE(arrival.ok());
    for (size_t b = 0; b < arrival->blocks.size(); ++b) {
      EXPECT_TRUE(holds(*target_, arrival->blocks[b], tokens[b * 4]));
    }
    ASSERT_TRUE(target_->unpin(arrival->blocks).ok());
  }
}

TEST_P(TransferTest, user_data_and_request_id_come_along) {
  const auto tokens = make_tokens(4);
  const auto blocks = filled_blocks(*source_, tokens);
  TransferOptions options;
  options.request_id = 77;
  options.user_data = {std::byte{1}, std::byte{2}};
  auto transfer = source_->transfer_with_insert("decode", {content_, tokens}, blocks, options);
  ASSERT_TRUE(transfer.ok());
  ASSERT_TRUE(transfer->wait().ok());
  const auto arrival = target_->receive(5s);
  ASSERT_TRUE(arrival.ok());
  EXPECT_EQ(arrival->request_id, 77u);
  EXPECT_EQ(arrival->user_data, options.user_data);
}

TEST_P(TransferTest, a_full_target_refuses_at_once_with_a_hint_and_keeps_what_it_has) {
  const auto held = target_->alloc(60);
  ASSERT_TRUE(held.ok());
  const auto tokens = make_tokens(20);
  const auto blocks = filled_blocks(*source_, tokens);
  const Status refused = send(tokens, blocks);
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted) << refused.to_string();
  EXPECT_GT(refused.retry_after_ms(), 0u);
  ASSERT_TRUE(target_->free(*held).ok());
  EXPECT_TRUE(send(tokens, blocks).ok());
}

TEST_P(TransferTest, a_target_that_receives_nothing_pushes_back) {
  source_.reset();
  target_.reset();
  AgentOptions target = small_options("decode", GetParam().transport);
  target.max_inbound = 1;
  start(small_options("prefill", GetParam().transport), target);
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*source_, tokens);
  ASSERT_TRUE(send(std::span(tokens).first(4), std::span(blocks).first(1)).ok());
  EXPECT_EQ(send(tokens, blocks).code(), StatusCode::kResourceExhausted);
  ASSERT_TRUE(target_->receive(5s).ok());
  EXPECT_TRUE(send(tokens, blocks).ok());
}

TEST_P(TransferTest, an_agent_without_an_engine_lets_arrivals_go_but_keeps_them_matchable) {
  source_.reset();
  target_.reset();
  AgentOptions target = small_options("decode", GetParam().transport);
  target.deliver_arrivals = false;
  start(small_options("prefill", GetParam().transport), target);
  const auto tokens = make_tokens(10);
  const auto blocks = filled_blocks(*source_, tokens);
  ASSERT_TRUE(send(tokens, blocks).ok());
  EXPECT_EQ(target_->status().pins, 0u);
  EXPECT_EQ(target_->match({content_, tokens}).tokens, 8u);
}

TEST_P(TransferTest, many_transfers_at_once_all_arrive) {
  constexpr int kTransfers = 12;
  std::vector<Transfer> transfers;
  for (TokenId i = 0; i < kTransfers; ++i) {
    const auto tokens = make_tokens(18, i * 1000);
    const auto blocks = filled_blocks(*source_, tokens);
    auto transfer = source_->transfer_with_insert("decode", {content_, tokens}, blocks);
    ASSERT_TRUE(transfer.ok()) << transfer.status().to_string();
    transfers.push_back(*transfer);
    ASSERT_TRUE(source_->unpin(blocks).ok());  // the transfer holds them on
  }
  for (const Transfer& transfer : transfers) EXPECT_TRUE(transfer.wait().ok());
  for (int i = 0; i < kTransfers; ++i) {
    const auto arrival = target_->receive(5s);
    ASSERT_TRUE(arrival.ok());
    for (size_t b = 0; b < arrival->blocks.size(); ++b) {
      EXPECT_TRUE(holds(*target_, arrival->blocks[b], arrival->tokens[b * 4]));
    }
    ASSERT_TRUE(target_->unpin(arrival->blocks).ok());
  }
  EXPECT_EQ(source_->status().blocks.at("free"), source_->status().total);
}

TEST_P(TransferTest, a_target_that_comes_back_under_its_name_is_found_again) {
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*source_, tokens);
  ASSERT_TRUE(send(tokens, blocks).ok());
  AgentOptions options = small_options("decode", GetParam().transport);
  options.placement.form = GetParam().target;
  target_.reset();
  target_ = start_agent(options);
  source_->add_peer("decode", target_->status().listen);
  Status sent;
  wait_until([&] {
    sent = send(tokens, blocks);
    return sent.code() != StatusCode::kUnavailable;  // until the old session is seen to be gone
  });
  EXPECT_TRUE(sent.ok()) << sent.to_string();
  EXPECT_EQ(target_->match({content_, tokens}).tokens, 8u);
}

TEST_P(TransferTest, agents_that_send_both_ways_survive_a_restart_of_one) {
  target_->add_peer("prefill", source_->status().listen);
  const auto tokens = make_tokens(8);
  const auto there = filled_blocks(*source_, tokens);
  ASSERT_TRUE(send(tokens, there).ok());
  const auto back_tokens = make_tokens(8, 500);
  const auto back = filled_blocks(*target_, back_tokens);
  const auto send_back = [&] {
    auto transfer = target_->transfer_with_insert("prefill", {content_, back_tokens}, back);
    return transfer.ok() ? transfer->wait() : transfer.status();
  };
  ASSERT_TRUE(send_back().ok());
  source_.reset();
  source_ = start_agent(small_options("prefill", GetParam().transport));
  target_->add_peer("prefill", source_->status().listen);
  Status sent;
  wait_until([&] {
    sent = send_back();
    return sent.code() != StatusCode::kUnavailable;
  });
  EXPECT_TRUE(sent.ok()) << sent.to_string();
}

TEST_P(TransferTest, a_target_of_another_content_refuses) {
  source_.reset();
  target_.reset();
  AgentOptions target = small_options("decode", GetParam().transport);
  target.content.model = "another";
  start(small_options("prefill", GetParam().transport), target);
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*source_, tokens);
  const Status refused = send(tokens, blocks);
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument) << refused.to_string();
  EXPECT_TRUE(source_->free(blocks).ok());
}

TEST_P(TransferTest, token_head_and_head_token_map_onto_each_other) {
  start_with_another_order();
  const auto tokens = make_tokens(4);
  const auto blocks = filled_blocks(*source_, tokens);
  const Status sent = send(tokens, blocks);
  ASSERT_TRUE(sent.ok()) << sent.to_string();
  const auto arrival = target_->receive(5s);
  ASSERT_TRUE(arrival.ok());
  const BlockLayout here = source_->layout();
  const BlockLayout there = target_->layout();
  for (uint32_t token = 0; token < here.tokens; ++token) {
    for (uint32_t head = 0; head < here.heads; ++head) {
      const auto from = source_->piece(blocks[0], 1, 1)->subspan(here.vector_offset(token, head));
      const auto to =
          target_->piece(arrival->blocks[0], 1, 1)->subspan(there.vector_offset(token, head));
      EXPECT_TRUE(std::equal(from.begin(), from.begin() + here.vector_bytes, to.begin()));
    }
  }
}

TEST_P(TransferTest, a_source_whose_sealed_bytes_changed_is_found_at_the_target) {
  send_what_changed_since_it_was_sealed();
  EXPECT_EQ(source_->status().quarantine.at("corruption"), 1u);
}

TEST_P(TransferTest, sums_travel_into_the_targets_order) {
  start_with_another_order();
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*source_, tokens);
  ASSERT_TRUE(source_->insert({content_, tokens}, blocks).ok());
  TransferReport report;
  ASSERT_TRUE(send(tokens, blocks, &report).ok());
  std::vector<std::byte> out(target_->layout().block_bytes);
  EXPECT_TRUE(target_->read(report.serving[1], out).ok());
  (*target_->piece(report.serving[1], 0, 1))[3] ^= std::byte{4};
  EXPECT_EQ(target_->read(report.serving[1], out).code(), StatusCode::kCorruption);
}

TEST_P(TransferTest, a_source_whose_sealed_bytes_changed_is_found_before_they_are_put_in_order) {
  start_with_another_order();
  send_what_changed_since_it_was_sealed();
}

TEST_P(TransferTest, a_deadline_ends_the_call_and_says_so) {
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*source_, tokens);
  const ListenSocket silent = *listen_on("127.0.0.1", 0, "");  // takes connections, says nothing
  source_->add_peer("silent", join_address(silent.host, silent.port));
  TransferOptions options;
  options.deadline = 50ms;
  std::promise<StatusCode> told;
  options.on_done = [&told](const Status& status) { told.set_value(status.code()); };
  const auto transfer =
      source_->transfer_with_insert("silent", {content_, tokens}, blocks, options);
  ASSERT_TRUE(transfer.ok());
  EXPECT_EQ(transfer->wait().code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(told.get_future().get(), StatusCode::kDeadlineExceeded);
  close(silent.descriptor);
  EXPECT_TRUE(source_->free(blocks).ok());
}

TEST_P(TransferTest, the_wrong_token_is_refused) {
  source_.reset();
  target_.reset();
  AgentOptions source = small_options("prefill", GetParam().transport);
  AgentOptions target = small_options("decode", GetParam().transport);
  source.token = "one";
  target.token = "two";
  start(source, target);
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*source_, tokens);
  EXPECT_EQ(send(tokens, blocks).code(), StatusCode::kPermissionDenied);
}

TEST_P(TransferTest, a_cancelled_transfer_ends_and_gives_everything_back) {
  for (int round = 0; round < 20; ++round) {
    const auto tokens = make_tokens(40, static_cast<TokenId>(round) * 1000);
    const auto blocks = filled_blocks(*source_, tokens);
    auto transfer = source_->transfer_with_insert("decode", {content_, tokens}, blocks);
    ASSERT_TRUE(transfer.ok());
    transfer->cancel();
    const Status status = transfer->wait();
    EXPECT_TRUE(status.ok() || status.code() == StatusCode::kCancelled) << status.to_string();
    ASSERT_TRUE(source_->unpin(blocks).ok());
    // The commit may have been quicker than the cancel, even where the call said kCancelled.
    while (true) {
      const auto arrival = target_->receive(0ms);
      if (!arrival.ok()) break;
      EXPECT_TRUE(holds(*target_, arrival->blocks[0], arrival->tokens[0]));
      ASSERT_TRUE(target_->unpin(arrival->blocks).ok());
    }
  }
  EXPECT_TRUE(wait_until([&] {
    const AgentStatus status = target_->status();
    return status.blocks.at("reserved") + status.blocks.at("quarantined") == 0;
  }));
}

std::vector<PairCase> all_cases() {
  std::vector<PairCase> cases;
  for (const std::string& transport : all_transports()) {
    for (BlockForm source : {BlockForm::kDiscrete, BlockForm::kAggregated}) {
      for (BlockForm target : {BlockForm::kDiscrete, BlockForm::kAggregated}) {
        cases.push_back({transport, source, target});
      }
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Pairs, TransferTest, ::testing::ValuesIn(all_cases()),
                         [](const auto& info) {
                           const auto form = [](BlockForm each) {
                             return each == BlockForm::kDiscrete ? "discrete" : "aggregated";
                           };
                           return info.param.transport + "_" + form(info.param.source) + "_to_" +
                                  form(info.param.target);
                         });

}  // namespace
}  // namespace mempool
