// SPDX-License-Identifier: Apache-2.0
// Tests quotas and floors through whole agents: what is refused before a byte moves, what stays
// under pressure, and what operators see.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "agent/status_json.h"
#include "mempool/agent.h"
#include "tests/agent/agent_pair.h"

namespace mempool {
namespace {

using testing::filled_blocks;
using ::testing::HasSubstr;
using testing::make_tokens;
using ::testing::Not;
using testing::small_options;
using testing::small_spec;
using testing::start_agent;

constexpr const char* kSalt = "pepper and salt";
constexpr size_t kBlockTokens = 4;  // of small_spec()

Content content_of(const std::string& salt) {
  ContentSpec spec = small_spec();
  spec.tenant_salt = salt;
  return make_content(spec).value();
}

/// Give the refusal of an agent whose tenants are these.
std::string refusal(const std::map<std::string, TenantOptions>& tenants) {
  AgentOptions options = small_options("refused");
  options.tenants = tenants;
  const Status status = Agent::start(options).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr(kSalt)));
  return std::string(status.message());
}

/// A source that knows no tenants, and a target of 64 blocks where "acme" has a quota of 8 and a
/// floor of 6. Thread: confined.
class TenantQuotaTest : public ::testing::Test {
 protected:
  TenantQuotaTest() {
    AgentOptions target = small_options("decode");
    target.tenants["acme"] = {kSalt, 8, 6};
    target.deliver_arrivals = false;
    target_ = start_agent(target);
    source_ = start_agent(small_options("prefill"));
    source_->add_peer("decode", target_->status().listen);
    target_->add_peer("prefill", source_->status().listen);
  }
  ~TenantQuotaTest() override {
    EXPECT_EQ(source_->status().audit.to_string(), "OK");
    EXPECT_EQ(target_->status().audit.to_string(), "OK");
  }

  void publish(Agent& agent, const Content& content, const std::vector<TokenId>& tokens) {
    const auto blocks = filled_blocks(agent, tokens);
    const auto inserted = agent.insert({content, tokens}, blocks);
    EXPECT_TRUE(inserted.ok()) << inserted.status().to_string();
    EXPECT_TRUE(agent.unpin(blocks).ok());
  }
  Status send(const Content& content, const std::vector<TokenId>& tokens,
              TransferReport* report = nullptr) {
    const auto blocks = filled_blocks(*source_, tokens);
    auto transfer = source_->transfer_with_insert("decode", {content, tokens}, blocks);
    if (!transfer.ok()) return transfer.status();
    const Status status = transfer->wait();
    if (report != nullptr) *report = transfer->report();
    EXPECT_TRUE(source_->unpin(blocks).ok());
    return status;
  }
  AgentStatus::Tenant acme() const { return target_->status().tenants.at(0); }
  /// Match and let go.
  size_t held(const Content& content, const std::vector<TokenId>& tokens) {
    const MatchResult match = target_->match({content, tokens});
    EXPECT_TRUE(target_->unpin(match.blocks).ok());
    return match.tokens;
  }

  const Content acme_ = content_of(kSalt);
  const Content other_ = content_of("");
  std::unique_ptr<Agent> source_;
  std::unique_ptr<Agent> target_;
};

TEST_F(TenantQuotaTest, an_offer_beyond_the_quota_is_refused_before_a_byte_moves) {
  TransferReport report;
  const Status status = send(acme_, make_tokens(9 * kBlockTokens), &report);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(status.retry_after_ms(), 0u) << "it can never fit";
  EXPECT_THAT(std::string(status.message()), HasSubstr("'acme' has a quota of 8 blocks"));
  EXPECT_EQ(report.network_calls, 0u);
  EXPECT_EQ(acme().published, 0u);
  EXPECT_EQ(acme().awaited, 0u);
  EXPECT_TRUE(send(other_, make_tokens(9 * kBlockTokens)).ok()) << "another has no quota";
}

TEST_F(TenantQuotaTest, an_offer_at_the_quota_takes_the_place_of_own_blocks) {
  const auto first = make_tokens(8 * kBlockTokens);
  const auto second = make_tokens(5 * kBlockTokens, 1000);
  ASSERT_TRUE(send(acme_, first).ok());
  EXPECT_EQ(acme().published, 8u);
  ASSERT_TRUE(send(acme_, second).ok());
  EXPECT_EQ(acme().published, 8u);
  EXPECT_EQ(acme().awaited, 0u);
  EXPECT_EQ(held(acme_, first), 3 * kBlockTokens);
  EXPECT_EQ(held(acme_, second), second.size());
  ASSERT_TRUE(send(acme_, second).ok()) << "what is there counts once";
}

TEST_F(TenantQuotaTest, an_offer_that_pinned_blocks_leave_no_room_for_may_be_made_again) {
  const auto first = make_tokens(8 * kBlockTokens);
  ASSERT_TRUE(send(acme_, first).ok());
  const MatchResult pinned = target_->match({acme_, first});
  const Status status = send(acme_, make_tokens(2 * kBlockTokens, 1000));
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_GT(status.retry_after_ms(), 0u);
  ASSERT_TRUE(target_->unpin(pinned.blocks).ok());
  EXPECT_TRUE(send(acme_, make_tokens(2 * kBlockTokens, 1000)).ok());
}

TEST_F(TenantQuotaTest, a_fetch_beyond_the_quota_is_refused_and_one_within_is_counted) {
  const auto tokens = make_tokens(9 * kBlockTokens);
  publish(*source_, acme_, tokens);
  const auto refused = target_->fetch("prefill", {acme_, tokens});
  EXPECT_EQ(refused.status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(acme().awaited, 0u);

  auto fetch = target_->fetch("prefill", {acme_, std::span(tokens).first(7 * kBlockTokens)});
  ASSERT_TRUE(fetch.ok()) << fetch.status().to_string();
  ASSERT_TRUE(fetch->wait().ok());
  EXPECT_TRUE(target_->unpin(fetch->report().serving).ok());
  EXPECT_EQ(acme().published, 7u);
  EXPECT_EQ(acme().awaited, 0u);
}

TEST_F(TenantQuotaTest, an_engine_inserts_within_the_quota) {
  publish(*target_, acme_, make_tokens(8 * kBlockTokens));
  publish(*target_, acme_, make_tokens(2 * kBlockTokens, 1000));
  EXPECT_EQ(acme().published, 8u);
  const auto tokens = make_tokens(9 * kBlockTokens, 2000);
  const auto blocks = filled_blocks(*target_, tokens);
  EXPECT_EQ(target_->insert({acme_, tokens}, blocks).status().code(),
            StatusCode::kResourceExhausted);
  EXPECT_EQ(acme().published, 8u);
  EXPECT_TRUE(target_->free(blocks).ok());
}

TEST_F(TenantQuotaTest, a_floor_stays_under_the_pressure_of_others) {
  const auto tokens = make_tokens(8 * kBlockTokens);
  publish(*target_, acme_, tokens);
  for (TokenId round = 1; round <= 4; ++round) {
    ASSERT_TRUE(send(other_, make_tokens(40 * kBlockTokens, 1000 * round)).ok());
  }
  EXPECT_EQ(acme().published, 6u);
  EXPECT_EQ(held(acme_, tokens), 6 * kBlockTokens);
  EXPECT_EQ(target_->alloc(59).status().code(), StatusCode::kResourceExhausted);
  const auto rest = target_->alloc(58);
  ASSERT_TRUE(rest.ok()) << rest.status().to_string();
  EXPECT_EQ(acme().published, 6u);
}

TEST_F(TenantQuotaTest, operators_see_what_a_tenant_has_and_may_have_but_no_salt) {
  publish(*target_, acme_, make_tokens(3 * kBlockTokens));
  const AgentStatus::Tenant acme = this->acme();
  EXPECT_EQ(acme.name, "acme");
  EXPECT_EQ(acme.published, 3u);
  EXPECT_EQ(acme.quota, 8u);
  EXPECT_EQ(acme.floor, 6u);
  const std::string metrics = target_->metrics();
  EXPECT_THAT(metrics, HasSubstr("mempool_tenant_blocks{tenant=\"acme\",state=\"published\"} 3\n"));
  EXPECT_THAT(metrics, HasSubstr("mempool_tenant_blocks{tenant=\"acme\",state=\"awaited\"} 0\n"));
  EXPECT_THAT(metrics,
              HasSubstr("mempool_tenant_limit_blocks{tenant=\"acme\",limit=\"quota\"} 8\n"));
  EXPECT_THAT(metrics,
              HasSubstr("mempool_tenant_limit_blocks{tenant=\"acme\",limit=\"floor\"} 6\n"));
  const std::string json = status_json(target_->status());
  EXPECT_THAT(json, HasSubstr("\"quota\": 8"));
  EXPECT_THAT(json + metrics, Not(HasSubstr(kSalt)));
}

TEST(TenantOptions, what_cannot_be_is_refused_by_the_tenants_name) {
  EXPECT_THAT(refusal({{"acme", {"", 1, 1}}}), HasSubstr("tenant 'acme' has no salt"));
  EXPECT_THAT(refusal({{"a", {kSalt}}, {"b", {kSalt}}}), HasSubstr("'a' and 'b' have the same"));
  EXPECT_THAT(refusal({{"acme", {kSalt, 8, 9}}}), HasSubstr("floor_blocks = 9 above its quota"));
  EXPECT_THAT(refusal({{"a", {"x", 0, 40}}, {"b", {"y", 0, 25}}}),
              HasSubstr("tenant 'b' has floor_blocks = 25; the other floors leave 24 of"));
  EXPECT_THAT(refusal({{"two\nlines", {kSalt}}}), HasSubstr("tenants"));
}

TEST(TenantOptions, floors_may_take_the_whole_pool) {
  AgentOptions options = small_options("full");
  options.tenants = {{"a", {"x", 0, 40}}, {"b", {"y", 24, 24}}};
  EXPECT_NE(start_agent(options), nullptr);
}

}  // namespace
}  // namespace mempool
