// SPDX-License-Identifier: Apache-2.0
// Tests blocks under keys: against a plain map, beside prompts, and what goes first.
#include <gmock/gmock.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>

#include "core/canonical.h"
#include "tests/index/index_fixture.h"

namespace mempool {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<ContentId> ids(const std::vector<std::string>& keys) {
  std::vector<ContentId> out;
  for (const std::string& key : keys) out.push_back(key_hash(key).value());
  return out;
}

/// Thread: confined.
class IndexKeysTest : public IndexTest {
 protected:
  std::vector<BlockAddress> insert_new(const std::vector<std::string>& keys) {
    const auto blocks = alloc(keys.size());
    const auto outcome = index_.insert_keys(kCallerSession, ids(keys), blocks);
    EXPECT_TRUE(outcome.ok()) << outcome.status().to_string();
    unpin(blocks);
    return blocks;
  }
  std::vector<BlockAddress> match_of(const std::vector<std::string>& keys) {
    std::vector<BlockAddress> out;
    const size_t found = index_.match_keys(kCallerSession, ids(keys), out);
    EXPECT_EQ(found, out.size());
    unpin(out);
    return out;
  }
};

TEST_F(IndexKeysTest, leading_keys_that_are_held_are_matched) {
  const auto blocks = insert_new({"a", "b", "d"});
  EXPECT_THAT(match_of({"a", "b", "c", "d"}), ElementsAre(blocks[0], blocks[1]));
  EXPECT_THAT(match_of({"d"}), ElementsAre(blocks[2]));  // keys know no prefixes
  EXPECT_THAT(match_of({"c", "a"}), ElementsAre());
}

TEST_F(IndexKeysTest, key_that_is_held_stays_and_the_new_block_is_a_duplicate) {
  const auto held = insert_new({"a"});
  const auto blocks = alloc(2);
  const auto outcome = index_.insert_keys(kCallerSession, ids({"b", "a"}), blocks);
  ASSERT_TRUE(outcome.ok());
  EXPECT_THAT(outcome->serving, ElementsAre(blocks[0], held[0]));
  EXPECT_THAT(outcome->duplicates, ElementsAre(1u));
  EXPECT_EQ(pool_->state(blocks[1].index()), BlockState::kWriting);
  unpin(blocks);
}

TEST_F(IndexKeysTest, key_that_is_listed_twice_takes_one_block) {
  const auto blocks = alloc(2);
  const auto outcome = index_.insert_keys(kCallerSession, ids({"a", "a"}), blocks);
  ASSERT_TRUE(outcome.ok());
  EXPECT_THAT(outcome->serving, ElementsAre(blocks[1], blocks[1]));
  EXPECT_THAT(outcome->duplicates, ElementsAre(0u));
  unpin(blocks);
}

TEST_F(IndexKeysTest, refused_list_changes_nothing) {
  const auto blocks = alloc(2);
  const auto foreign = alloc(1, kPeer);
  const std::vector<BlockAddress> list = {blocks[0], foreign[0]};
  EXPECT_FALSE(index_.insert_keys(kCallerSession, ids({"a", "b"}), list).ok());
  const auto count = index_.insert_keys(kCallerSession, ids({"a"}), blocks).status();
  EXPECT_THAT(std::string(count.message()), HasSubstr("2 blocks for 1 keys"));
  EXPECT_EQ(index_.blocks(), 0u);
  unpin(blocks);
  unpin(foreign, kPeer);
}

TEST_F(IndexKeysTest, of_one_list_the_last_key_goes_first) {
  insert_new({"a", "b", "c"});
  EXPECT_EQ(index_.evict(1), 1u);
  EXPECT_EQ(match_of({"a", "b", "c"}).size(), 2u);
  EXPECT_EQ(index_.evict(1), 1u);
  EXPECT_EQ(match_of({"a"}).size(), 1u);
}

TEST_F(IndexKeysTest, keys_and_prompts_share_the_order_of_eviction) {
  insert_new({"a"});
  insert({1, 1, 2, 2});
  match_of({"a"});
  EXPECT_EQ(index_.evict(2), 2u);
  EXPECT_EQ(held_tokens({1, 1}), 0u);
  EXPECT_EQ(match_of({"a"}).size(), 1u);
}

TEST_F(IndexKeysTest, key_is_no_content_of_the_same_name) {
  insert_new({"one"});
  EXPECT_EQ(held_tokens({0, 0}), 0u);
}

TEST(IndexKeysAdmission, leading_keys_are_admitted_when_they_come_again) {
  const auto pool = test_pool();
  LocalIndex index(*pool, lru(), nullptr, make_admission_policy("second_hit", kPoolBlocks).value());
  const auto offer = [&](const std::vector<std::string>& keys) {
    std::vector<BlockAddress> blocks;
    EXPECT_TRUE(pool->alloc(kCallerSession, keys.size(), BlockState::kWriting, blocks).ok());
    const size_t admitted = index.insert_keys(kCallerSession, ids(keys), blocks).value().admitted;
    EXPECT_TRUE(pool->unpin(kCallerSession, blocks).ok());
    return admitted;
  };
  EXPECT_EQ(offer({"a", "b"}), 0u);
  EXPECT_EQ(offer({"a", "c", "b"}), 1u);
  EXPECT_EQ(offer({"a", "c", "b"}), 3u);
  EXPECT_EQ(index.audit().to_string(), "OK");
}

struct Call {
  enum Kind { kInsert, kMatch, kErase, kEvict, kUnpin } kind = kInsert;
  std::vector<uint8_t> keys;
};

RC_GTEST_PROP(IndexKeysModel, any_calls_leave_what_a_plain_map_has, (bool first_in_first_out)) {
  const auto pool = test_pool();
  LocalIndex index(
      *pool,
      make_eviction_policy(first_in_first_out ? "s3fifo" : "lfu", {.blocks = kPoolBlocks}).value());
  std::map<uint8_t, BlockAddress> model;
  std::vector<std::vector<BlockAddress>> pins;
  const auto any_call = rc::gen::build<Call>(
      rc::gen::set(&Call::kind, rc::gen::weightedElement<Call::Kind>({{4, Call::kInsert},
                                                                      {3, Call::kMatch},
                                                                      {1, Call::kErase},
                                                                      {1, Call::kEvict},
                                                                      {3, Call::kUnpin}})),
      rc::gen::set(&Call::keys,
                   rc::gen::container<std::vector<uint8_t>>(rc::gen::inRange<uint8_t>(0, 12))));
  for (const Call& call : *rc::gen::container<std::vector<Call>>(any_call)) {
    std::vector<std::string> names;
    for (const uint8_t key : call.keys) names.push_back(std::string(1, static_cast<char>(key)));
    std::vector<BlockAddress> blocks;
    if (call.kind == Call::kInsert && pool->free_blocks() >= names.size()) {
      RC_ASSERT(pool->alloc(kCallerSession, names.size(), BlockState::kWriting, blocks).ok());
      const auto outcome = index.insert_keys(kCallerSession, ids(names), blocks);
      for (size_t i = blocks.size(); i-- > 0;) model.try_emplace(call.keys[i], blocks[i]);
      for (size_t i = 0; i < blocks.size(); ++i) {
        RC_ASSERT(outcome.value().serving[i] == model.at(call.keys[i]));
      }
      pins.push_back(blocks);
    } else if (call.kind == Call::kMatch) {
      const size_t found = index.match_keys(kCallerSession, ids(names), blocks);
      for (size_t i = 0; i < found; ++i) RC_ASSERT(blocks[i] == model.at(call.keys[i]));
      if (found < names.size()) RC_ASSERT(!model.contains(call.keys[found]));
      pins.push_back(blocks);
    } else if (call.kind == Call::kErase) {
      size_t erased = 0;
      for (const uint8_t key : call.keys) erased += model.erase(key);
      RC_ASSERT(index.erase_keys(ids(names)) == erased);
    } else if (call.kind == Call::kEvict) {
      const uint64_t possible = pool->evictable_blocks();
      RC_ASSERT(index.evict(names.size()) == std::min<uint64_t>(names.size(), possible));
      std::erase_if(model, [&](const auto& each) { return !pool->check(each.second).ok(); });
    } else if (!pins.empty()) {
      RC_ASSERT(pool->unpin(kCallerSession, pins.back()).ok());
      pins.pop_back();
    }
    RC_ASSERT(index.audit().to_string() == "OK");
    RC_ASSERT(pool->audit().ok());
    RC_ASSERT(index.blocks() == model.size());
  }
}

}  // namespace
}  // namespace mempool
