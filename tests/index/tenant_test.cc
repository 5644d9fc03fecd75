// SPDX-License-Identifier: Apache-2.0
// Tests whose blocks go when a tenant has a quota or a floor.
#include <gmock/gmock.h>

#include "index/tenant_shares.h"
#include "tests/index/index_fixture.h"

namespace mempool {
namespace {

using testing::HasSubstr;

constexpr uint64_t kQuota = 6;
constexpr uint64_t kFloor = 4;
constexpr uint32_t kRetryHintMs = 9;
constexpr Duration kTimeToLive = std::chrono::seconds(1);

/// A pool of 24 blocks, where "acme" has a quota of 6 blocks and a floor of 4. Thread: confined.
class TenantTest : public testing::TestWithParam<std::string> {
 protected:
  ~TenantTest() override {
    EXPECT_EQ(index_.audit().to_string(), "OK");
    EXPECT_EQ(pool_->audit().status().to_string(), "OK");
  }

  static TenantRules rules() {
    return {{{"acme", tenant_content("acme's").tenant, kQuota, kFloor}}, kRetryHintMs};
  }
  std::vector<BlockAddress> alloc(size_t count) {
    std::vector<BlockAddress> blocks;
    EXPECT_TRUE(pool_->alloc(kCallerSession, count, BlockState::kWriting, blocks).ok());
    return blocks;
  }
  Status insert_pinned(const Content& content, const Tokens& tokens,
                       std::vector<BlockAddress>& blocks) {
    index_.match(kCallerSession, {content, tokens}, blocks);
    const auto fresh = alloc(tokens.size() / kTokensPerBlock - blocks.size());
    blocks.insert(blocks.end(), fresh.begin(), fresh.end());
    return index_.insert(kCallerSession, {content, tokens}, blocks).status();
  }
  Status insert(const Content& content, const Tokens& tokens) {
    std::vector<BlockAddress> blocks;
    const Status status = insert_pinned(content, tokens, blocks);
    EXPECT_TRUE(pool_->unpin(kCallerSession, blocks).ok());
    return status;
  }
  /// As many prompts of a block each, the first tokens `first`, `first` + 1...
  void insert_each(const Content& content, size_t count, TokenId first = 0) {
    for (size_t i = 0; i < count; ++i) {
      EXPECT_TRUE(insert(content, {first + static_cast<TokenId>(i), 0}).ok());
    }
  }
  bool holds(const Content& content, const Tokens& tokens) const {
    return index_.peek({content, tokens}) == tokens.size();
  }
  const TenantShare& acme() const { return index_.tenants().listed().front(); }

  const Content acme_ = tenant_content("acme's");
  const Content other_ = tenant_content("");
  ManualClock clock_;
  std::unique_ptr<BlockPool> pool_ = test_pool();
  LocalIndex index_{*pool_,
                    make_eviction_policy(GetParam(), {kPoolBlocks, kTimeToLive, &clock_}).value(),
                    nullptr, nullptr, rules()};
};

// ---- quota -----------------------------------------------------------------------------------

TEST_P(TenantTest, at_its_quota_it_gives_its_own_oldest_block_for_a_new_one) {
  insert_each(other_, 3);
  insert_each(acme_, kQuota);
  insert_each(acme_, 2, 100);
  EXPECT_EQ(acme().published, kQuota);
  EXPECT_FALSE(holds(acme_, {0, 0}));
  EXPECT_FALSE(holds(acme_, {1, 0}));
  EXPECT_TRUE(holds(acme_, {2, 0}));
  EXPECT_TRUE(holds(other_, {0, 0})) << "which is older, but another's";
  EXPECT_EQ(index_.evicted(), 2u);
}

TEST_P(TenantTest, a_prompt_larger_than_the_quota_is_refused_for_good_and_changes_nothing) {
  insert_each(acme_, 2);
  std::vector<BlockAddress> blocks;
  const Status status = insert_pinned(acme_, Tokens(2 * (kQuota + 1), 7), blocks);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(status.retry_after_ms(), 0u);
  EXPECT_THAT(std::string(status.message()), HasSubstr("'acme' has a quota of 6 blocks"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("asks for 7"));
  EXPECT_EQ(acme().published, 2u);
  EXPECT_TRUE(pool_->free(kCallerSession, blocks).ok()) << "they are the caller's as before";
}

TEST_P(TenantTest, what_pinned_blocks_leave_no_room_for_is_refused_with_a_hint_and_evicts_nothing) {
  std::vector<BlockAddress> pinned;
  ASSERT_TRUE(insert_pinned(acme_, {1, 1, 2, 2, 3, 3, 4, 4}, pinned).ok());
  insert_each(acme_, 2, 100);
  const Status status = insert(acme_, {9, 9, 8, 8, 7, 7});
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(status.retry_after_ms(), kRetryHintMs);
  EXPECT_THAT(std::string(status.message()), HasSubstr("6 are published"));
  EXPECT_EQ(acme().published, kQuota);
  EXPECT_EQ(index_.evicted(), 0u);
  EXPECT_TRUE(pool_->unpin(kCallerSession, pinned).ok());
  EXPECT_TRUE(insert(acme_, {9, 9, 8, 8, 7, 7}).ok());
}

TEST_P(TenantTest, a_prompt_that_grows_at_the_quota_keeps_its_own_prefix) {
  std::vector<BlockAddress> prefix;
  ASSERT_TRUE(insert_pinned(acme_, {1, 1, 2, 2}, prefix).ok());
  ASSERT_TRUE(insert(acme_, {1, 1, 2, 2, 3, 3}).ok());
  ASSERT_TRUE(insert(acme_, {1, 1, 2, 2, 4, 4, 5, 5, 6, 6}).ok());
  auto blocks = prefix;
  ASSERT_TRUE(pool_->unpin(kCallerSession, prefix).ok());
  const auto fresh = alloc(3);
  blocks.insert(blocks.end(), fresh.begin(), fresh.end());
  // Nobody pins the prefix; of the two prompts behind it, what goes joins edges of the tree.
  const auto outcome =
      index_.insert(kCallerSession, {acme_, Tokens{1, 1, 2, 2, 7, 7, 8, 8, 9, 9}}, blocks);
  ASSERT_TRUE(outcome.ok()) << outcome.status().to_string();
  EXPECT_EQ(outcome->serving, blocks);
  EXPECT_EQ(acme().published, kQuota);
  EXPECT_TRUE(holds(acme_, {1, 1, 2, 2, 7, 7, 8, 8, 9, 9}));
  EXPECT_TRUE(pool_->unpin(kCallerSession, fresh).ok());
}

TEST_P(TenantTest, an_old_prefix_does_not_go_for_its_own_continuation) {
  std::vector<BlockAddress> blocks;
  ASSERT_TRUE(insert_pinned(acme_, {1, 1, 2, 2}, blocks).ok());
  ASSERT_TRUE(pool_->unpin(kCallerSession, blocks).ok());
  insert_each(acme_, 4, 100);
  const auto fresh = alloc(1);
  blocks.push_back(fresh.front());
  const Tokens longer = {1, 1, 2, 2, 3, 3};
  const auto outcome = index_.insert(kCallerSession, {acme_, longer}, blocks);
  ASSERT_TRUE(outcome.ok()) << outcome.status().to_string();
  EXPECT_EQ(outcome->serving, blocks);
  EXPECT_TRUE(holds(acme_, longer));
  EXPECT_EQ(acme().published, kQuota);
  EXPECT_TRUE(pool_->unpin(kCallerSession, fresh).ok());
}

TEST_P(TenantTest, what_is_published_already_counts_once) {
  const Tokens whole = {1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6};
  ASSERT_TRUE(insert(acme_, whole).ok());
  ASSERT_TRUE(insert(acme_, whole).ok());
  const auto copies = alloc(kQuota);
  const auto outcome = index_.insert(kCallerSession, {acme_, whole}, copies);
  ASSERT_TRUE(outcome.ok()) << outcome.status().to_string();
  EXPECT_EQ(outcome->duplicates.size(), kQuota);
  EXPECT_EQ(acme().published, kQuota);
  EXPECT_EQ(index_.evicted(), 0u);
  EXPECT_TRUE(pool_->free(kCallerSession, copies).ok());
}

TEST_P(TenantTest, awaited_blocks_count_and_are_never_what_goes) {
  insert_each(acme_, 3);
  const uint64_t tenant = acme_.tenant;
  ASSERT_TRUE(index_.make_room(4, tenant, 4).ok());
  index_.await(tenant, 4);
  EXPECT_EQ(acme().published, 2u);
  EXPECT_EQ(index_.make_room(3, tenant, 3).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(insert(acme_, {9, 9, 8, 8, 7, 7}).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(acme().published, 2u);
  index_.unawait(tenant, 4);
  EXPECT_TRUE(insert(acme_, {9, 9, 8, 8, 7, 7}).ok());
}

TEST_P(TenantTest, erased_blocks_are_room_under_the_quota) {
  insert_each(acme_, kQuota);
  EXPECT_EQ(index_.erase({acme_, Tokens{5, 0}}), 1u);
  insert_each(acme_, 1, 100);
  EXPECT_TRUE(holds(acme_, {0, 0}));
}

TEST_P(TenantTest, what_was_published_before_anybody_named_its_tenant_counts_once_it_is_named) {
  Content unnamed = acme_;
  unnamed.tenant = 0;
  ASSERT_TRUE(insert(unnamed, {1, 1, 2, 2, 3, 3}).ok());
  ASSERT_TRUE(insert(unnamed, {1, 1, 4, 4}).ok());
  EXPECT_EQ(acme().published, 0u);
  ASSERT_TRUE(insert(acme_, {1, 1, 2, 2, 3, 3, 5, 5}).ok());
  EXPECT_EQ(acme().published, 5u);
  EXPECT_EQ(index_.audit().to_string(), "OK");
  ASSERT_TRUE(insert(unnamed, {6, 6, 7, 7}).ok());
  EXPECT_EQ(acme().published, kQuota) << "who names none does not take it back";
  EXPECT_EQ(index_.evict(kPoolBlocks), kQuota - kFloor);
}

TEST_P(TenantTest, a_refused_insert_does_not_name_the_tenant_of_what_is_there) {
  Content unnamed = acme_;
  unnamed.tenant = 0;
  std::vector<BlockAddress> pinned;
  ASSERT_TRUE(insert_pinned(unnamed, Tokens(2 * (kQuota + 1), 7), pinned).ok());
  EXPECT_EQ(insert(acme_, {9, 9}).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(acme().published, 0u);
  EXPECT_EQ(index_.audit().to_string(), "OK");
  EXPECT_EQ(index_.blocks(), kQuota + 1);
  EXPECT_TRUE(pool_->unpin(kCallerSession, pinned).ok());
  EXPECT_TRUE(insert(acme_, {9, 9}).ok()) << "which evicts what is above the quota";
  EXPECT_EQ(acme().published, kQuota);
}

// ---- floor -----------------------------------------------------------------------------------

TEST_P(TenantTest, eviction_for_others_ends_at_the_floor) {
  insert_each(acme_, kQuota);
  insert_each(other_, 3);
  EXPECT_EQ(index_.evict(kPoolBlocks), kQuota - kFloor + 3);
  EXPECT_EQ(acme().published, kFloor);
  EXPECT_TRUE(holds(acme_, {5, 0})) << "the newest of it are those that stay";
  EXPECT_EQ(index_.blocks(), kFloor);
}

TEST_P(TenantTest, a_long_prompt_is_cut_down_to_the_floor) {
  ASSERT_TRUE(insert(acme_, {1, 1, 2, 2, 3, 3, 4, 4, 5, 5}).ok());
  EXPECT_EQ(index_.evict(kPoolBlocks), 1u);
  EXPECT_TRUE(holds(acme_, {1, 1, 2, 2, 3, 3, 4, 4}));
}

TEST_P(TenantTest, its_own_needs_go_below_its_floor) {
  insert_each(acme_, kFloor);
  EXPECT_EQ(index_.evict(3, acme_.tenant), 3u);
  EXPECT_EQ(acme().published, 1u);
}

TEST_P(TenantTest, erase_knows_no_floor) {
  insert_each(acme_, 1);
  EXPECT_EQ(index_.erase({acme_, Tokens{0, 0}}), 1u);
}

TEST_P(TenantTest, room_that_floors_and_pins_cannot_give_is_not_begun) {
  insert_each(acme_, kQuota);
  insert_each(other_, 3);
  std::vector<BlockAddress> pinned;
  index_.match(kCallerSession, {other_, Tokens{0, 0}}, pinned);
  const auto rest = alloc(pool_->free_blocks());
  EXPECT_TRUE(index_.make_room(5).ok());  // the pool's alloc says no
  EXPECT_EQ(pool_->free_blocks(), 0u);
  EXPECT_EQ(index_.evicted(), 0u);
  EXPECT_TRUE(index_.make_room(4).ok());
  EXPECT_EQ(pool_->free_blocks(), 4u);
  EXPECT_EQ(acme().published, kFloor);
  EXPECT_TRUE(pool_->unpin(kCallerSession, pinned).ok());
  EXPECT_TRUE(pool_->free(kCallerSession, rest).ok());
}

TEST_P(TenantTest, another_tenant_can_take_what_is_above_a_floor_in_its_turn) {
  insert_each(acme_, kQuota);
  insert_each(other_, 3);
  EXPECT_EQ(index_.evict(1), 1u);
  EXPECT_FALSE(holds(acme_, {0, 0})) << "the oldest of all";
  EXPECT_TRUE(holds(other_, {0, 0}));
}

INSTANTIATE_TEST_SUITE_P(Policy, TenantTest, testing::Values("lru", "lfu", "s3fifo", "ttl"),
                         [](const auto& info) { return info.param; });

using TenantTtlTest = TenantTest;

TEST_P(TenantTtlTest, what_had_its_time_goes_below_the_floor_too) {
  insert_each(acme_, kFloor);
  clock_.advance(2 * kTimeToLive);
  insert_each(other_, 1);
  EXPECT_EQ(acme().published, 0u);
}

INSTANTIATE_TEST_SUITE_P(Policy, TenantTtlTest, testing::Values("ttl"),
                         [](const auto& info) { return info.param; });

TEST(TenantContent, a_tenant_is_its_salt_whatever_the_model) {
  const Content here = tenant_content("a");
  EXPECT_EQ(here.tenant, tenant_content("a", "another model").tenant);
  EXPECT_NE(here.tenant, tenant_content("b").tenant);
  EXPECT_NE(here.tenant, 0u);
  EXPECT_EQ(tenant_content("").tenant, 0u);
}

}  // namespace
}  // namespace mempool
