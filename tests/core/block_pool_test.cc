// SPDX-License-Identifier: Apache-2.0
// Tests every step and every refusal of the block pool, and that its audit finds what is broken.
#include "core/block_pool.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace mempool {

/// Breaks one invariant of a pool at a time. Thread: confined.
class BlockPoolBreaker {
 public:
  explicit BlockPoolBreaker(BlockPool& pool) : pool_(pool) {}
  void lose_a_pin(uint32_t index) { --pool_.records_[index].pins; }
  void forget_pins(uint32_t index) {
    pool_.records_[index].pins = pool_.records_[index].caller_pins = 0;
  }
  void set_state(uint32_t index, BlockState state) { pool_.records_[index].state = state; }
  void give_behind_its_back(uint32_t index) { pool_.free_.give(index); }
  void name_a_writer(uint32_t index) { pool_.quarantined_[index] = "ghost"; }
  void miscount_a_writer() { ++pool_.counts_.quarantine["ghost"]; }
  void leave_listed(uint32_t index) { pool_.records_[index].listed = 1; }
  void set_generation(uint32_t index, uint64_t generation) {
    pool_.generations_[index].store(generation);
  }

 private:
  BlockPool& pool_;
};

namespace {

constexpr uint64_t kIncarnation = 0x1f2e;
constexpr SessionId kPeer = 7;
constexpr SessionId kOtherPeer = 8;
constexpr uint32_t kBlocks = 24;  // in segments of 16 and 8

class BlockPoolTest : public testing::Test {
 protected:
  void SetUp() override {
    PoolOptions options;
    options.shape = {.layers = 2, .kv_heads = 2, .head_size = 8};
    options.segment_blocks = {16, 8};
    Result<std::unique_ptr<BlockPool>> pool = BlockPool::create(options, kIncarnation);
    ASSERT_TRUE(pool.ok()) << pool.status().to_string();
    pool_ = std::move(pool).value();
  }
  void TearDown() override { EXPECT_EQ(audit_error(), ""); }

  std::string audit_error() const { return std::string(pool_->audit().status().message()); }
  uint64_t count(BlockState state) const { return pool_->audit().value().count(state); }

  std::vector<BlockAddress> alloc(size_t count, SessionId session = kCallerSession,
                                  BlockState state = BlockState::kWriting) {
    std::vector<BlockAddress> out;
    const Status status = pool_->alloc(session, count, state, out);
    EXPECT_TRUE(status.ok()) << status.to_string();
    return out;
  }
  BlockAddress reserve(SessionId session) { return alloc(1, session, BlockState::kReserved)[0]; }
  BlockAddress make_private() {
    const BlockAddress address = alloc(1)[0];
    pool_->seal(address.index(), std::nullopt);
    return address;
  }
  BlockAddress make_published() {
    const BlockAddress address = make_private();
    pool_->publish(address.index());
    return address;
  }
  StatusCode free(const BlockAddress& address, SessionId session = kCallerSession) {
    return pool_->free(session, {&address, 1}).code();
  }
  StatusCode pin(const BlockAddress& address, SessionId session = kCallerSession) {
    return pool_->pin(session, {&address, 1}).code();
  }
  StatusCode unpin(const BlockAddress& address, SessionId session = kCallerSession) {
    return pool_->unpin(session, {&address, 1}).code();
  }
  BlockState state(const BlockAddress& address) const { return pool_->state(address.index()); }

  std::unique_ptr<BlockPool> pool_;
};

TEST_F(BlockPoolTest, fresh_pool_is_all_free) {
  EXPECT_EQ(pool_->blocks(), kBlocks);
  EXPECT_EQ(pool_->free_blocks(), kBlocks);
  EXPECT_EQ(pool_->block_bytes(), 2u * 2 * 2 * 8 * 2 * 16);
  const PoolAudit audit = pool_->audit().value();
  EXPECT_EQ(audit.total, kBlocks);
  EXPECT_EQ(audit.count(BlockState::kFree), kBlocks);
  EXPECT_EQ(audit.pins, 0u);
}

TEST_F(BlockPoolTest, views_of_all_blocks_lie_apart_inside_their_segments) {
  std::set<std::byte*> pieces;
  for (uint32_t index = 0; index < kBlocks; ++index) {
    const BlockView view = pool_->view(index);
    const PoolSegment& segment = *pool_->segments().all()[index < 16 ? 0 : 1];
    EXPECT_EQ(view.segment, segment.memory.data);
    EXPECT_EQ(view.block, index - segment.first_block);
    for (uint32_t layer = 0; layer < 2; ++layer) {
      for (uint32_t part = 0; part < 2; ++part) {
        std::byte* const piece = view.piece(layer, part);
        EXPECT_GE(piece, view.segment);
        EXPECT_LE(piece + view.layout->piece_bytes, view.segment + segment.memory.bytes);
        pieces.insert(piece);
      }
    }
  }
  EXPECT_EQ(pieces.size(), kBlocks * 4u);
}

// ---- alloc ------------------------------------------------------------------------------------

TEST_F(BlockPoolTest, alloc_gives_neighbours_pinned_once) {
  const std::vector<BlockAddress> blocks = alloc(20);
  for (uint32_t i = 0; i < 20; ++i) {
    EXPECT_EQ(blocks[i].index(), i);
    EXPECT_EQ(blocks[i].medium(), Medium::kHost);
    EXPECT_EQ(blocks[i].incarnation, kIncarnation);
    EXPECT_TRUE(pool_->check(blocks[i]).ok());
    EXPECT_EQ(pool_->pins(i), 1u);
    EXPECT_EQ(pool_->pins_of(kCallerSession, i), 1u);
    EXPECT_EQ(state(blocks[i]), BlockState::kWriting);
  }
  EXPECT_EQ(count(BlockState::kWriting), 20u);
}

TEST_F(BlockPoolTest, alloc_goes_on_behind_the_block_named) {
  alloc(4);
  std::vector<BlockAddress> out;
  ASSERT_TRUE(pool_->alloc(kCallerSession, 2, BlockState::kWriting, out, 9).ok());
  EXPECT_EQ(out[0].index(), 10u);
  EXPECT_EQ(out[1].index(), 11u);
}

TEST_F(BlockPoolTest, alloc_of_more_than_is_free_takes_nothing) {
  alloc(20);
  std::vector<BlockAddress> out = {BlockAddress{}};
  const Status status = pool_->alloc(kCallerSession, 5, BlockState::kWriting, out);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(out.size(), 1u);
  EXPECT_EQ(pool_->free_blocks(), 4u);
}

TEST_F(BlockPoolTest, alloc_of_nothing_is_fine) {
  EXPECT_TRUE(alloc(0).empty());
}

// ---- free -------------------------------------------------------------------------------------

TEST_F(BlockPoolTest, freed_block_is_stale_to_its_old_address) {
  const BlockAddress address = alloc(1)[0];
  EXPECT_EQ(free(address), StatusCode::kOk);
  EXPECT_EQ(pool_->check(address).code(), StatusCode::kStale);
  std::vector<BlockAddress> again;
  ASSERT_TRUE(pool_->alloc(kCallerSession, kBlocks, BlockState::kWriting, again).ok());
  EXPECT_EQ(pool_->check(address).code(), StatusCode::kStale);
  EXPECT_EQ(pool_->address(address.index()).generation, address.generation + 1);
}

TEST_F(BlockPoolTest, double_free_is_stale) {
  const BlockAddress address = alloc(1)[0];
  EXPECT_EQ(free(address), StatusCode::kOk);
  EXPECT_EQ(free(address), StatusCode::kStale);
  EXPECT_EQ(pool_->free_blocks(), kBlocks);
}

TEST_F(BlockPoolTest, guessed_address_of_a_free_block_is_stale) {
  EXPECT_EQ(pool_->check(pool_->address(3)).code(), StatusCode::kStale);
  EXPECT_EQ(free(pool_->address(3)), StatusCode::kStale);
  EXPECT_EQ(pin(pool_->address(3)), StatusCode::kStale);
  EXPECT_EQ(unpin(pool_->address(3)), StatusCode::kStale);
}

TEST_F(BlockPoolTest, foreign_incarnation_is_stale_whatever_else_it_says) {
  BlockAddress address = alloc(1)[0];
  address.incarnation += 1;
  EXPECT_EQ(free(address), StatusCode::kStale);
  address.place = 0xffffffff;
  EXPECT_EQ(pool_->check(address).code(), StatusCode::kStale);
}

TEST_F(BlockPoolTest, other_medium_or_index_past_the_end_is_invalid) {
  const uint32_t generation = alloc(1)[0].generation;
  for (const BlockAddress& address :
       {BlockAddress::make(kIncarnation, generation, Medium::kDevice, 0),
        BlockAddress::make(kIncarnation, generation, Medium::kHost, kBlocks)}) {
    EXPECT_EQ(pool_->check(address).code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(free(address), StatusCode::kInvalidArgument);
  }
}

TEST_F(BlockPoolTest, free_of_a_list_with_one_bad_block_frees_none) {
  std::vector<BlockAddress> blocks = alloc(4);
  ASSERT_EQ(free(blocks[2]), StatusCode::kOk);
  EXPECT_EQ(pool_->free(kCallerSession, blocks).code(), StatusCode::kStale);
  EXPECT_EQ(count(BlockState::kWriting), 3u);
  blocks.erase(blocks.begin() + 2);
  EXPECT_TRUE(pool_->free(kCallerSession, blocks).ok());
}

TEST_F(BlockPoolTest, free_of_a_block_named_twice_frees_none) {
  const std::vector<BlockAddress> blocks = alloc(2);
  const std::vector<BlockAddress> twice = {blocks[0], blocks[1], blocks[0]};
  EXPECT_EQ(pool_->free(kCallerSession, twice).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(count(BlockState::kWriting), 2u);
}

TEST_F(BlockPoolTest, free_demands_the_only_pin) {
  const BlockAddress address = alloc(1)[0];
  EXPECT_EQ(free(address, kPeer), StatusCode::kInvalidArgument) << "another session's block";
  ASSERT_EQ(pin(address, kPeer), StatusCode::kOk);
  EXPECT_EQ(free(address), StatusCode::kInvalidArgument);
  ASSERT_EQ(unpin(address, kPeer), StatusCode::kOk);
  ASSERT_EQ(pin(address), StatusCode::kOk);
  EXPECT_EQ(free(address), StatusCode::kInvalidArgument) << "pinned twice by the caller";
  ASSERT_EQ(unpin(address), StatusCode::kOk);
  EXPECT_EQ(free(address), StatusCode::kOk);
}

TEST_F(BlockPoolTest, published_block_cannot_be_freed) {
  EXPECT_EQ(free(make_published()), StatusCode::kInvalidArgument);
}

TEST_F(BlockPoolTest, reserved_and_private_blocks_can_be_freed) {
  EXPECT_EQ(free(reserve(kPeer), kPeer), StatusCode::kOk);
  EXPECT_EQ(free(make_private()), StatusCode::kOk);
  EXPECT_EQ(pool_->free_blocks(), kBlocks);
}

// ---- pins -------------------------------------------------------------------------------------

TEST_F(BlockPoolTest, pins_are_counted_by_session) {
  const BlockAddress address = make_published();
  pool_->pin_published(kPeer, address.index());
  pool_->pin_published(kPeer, address.index());
  pool_->pin_published(kOtherPeer, address.index());
  EXPECT_EQ(pool_->pins(address.index()), 4u);
  EXPECT_EQ(pool_->pins_of(kPeer, address.index()), 2u);
  EXPECT_EQ(pool_->pins_of(kOtherPeer, address.index()), 1u);
  EXPECT_EQ(pool_->pins_of(kCallerSession, address.index()), 1u);
  EXPECT_EQ(pool_->pins_of(99, address.index()), 0u);
  EXPECT_EQ(pool_->audit().value().pins, 4u);
}

TEST_F(BlockPoolTest, reserved_and_quarantined_blocks_cannot_be_pinned) {
  const BlockAddress reserved = reserve(kPeer);
  EXPECT_EQ(pin(reserved), StatusCode::kInvalidArgument);
  pool_->quarantine(kPeer, reserved.index(), "decode0");
  EXPECT_EQ(pin(reserved), StatusCode::kInvalidArgument);
}

TEST_F(BlockPoolTest, pin_of_a_list_with_one_bad_block_pins_none) {
  std::vector<BlockAddress> blocks = alloc(2);
  blocks.push_back(pool_->address(20));
  EXPECT_EQ(pool_->pin(kPeer, blocks).code(), StatusCode::kStale);
  EXPECT_EQ(pool_->pins(blocks[0].index()), 1u);
}

TEST_F(BlockPoolTest, last_unpin_frees_what_no_index_holds) {
  const BlockAddress address = make_private();
  ASSERT_EQ(pin(address, kPeer), StatusCode::kOk);
  EXPECT_EQ(unpin(address), StatusCode::kOk);
  EXPECT_EQ(state(address), BlockState::kPrivate);
  EXPECT_EQ(unpin(address, kPeer), StatusCode::kOk);
  EXPECT_EQ(state(address), BlockState::kFree);
  EXPECT_EQ(pool_->check(address).code(), StatusCode::kStale);
}

TEST_F(BlockPoolTest, last_unpin_of_a_published_block_leaves_it_published) {
  const BlockAddress address = make_published();
  EXPECT_EQ(unpin(address), StatusCode::kOk);
  EXPECT_EQ(state(address), BlockState::kPublished);
  EXPECT_TRUE(pool_->check(address).ok());
}

TEST_F(BlockPoolTest, unpin_without_a_pin_is_refused) {
  const BlockAddress address = alloc(1)[0];
  EXPECT_EQ(unpin(address, kPeer), StatusCode::kInvalidArgument);
  EXPECT_EQ(pool_->pins(address.index()), 1u);
}

TEST_F(BlockPoolTest, unpin_list_counts_a_block_as_often_as_it_names_it) {
  const BlockAddress address = alloc(1)[0];
  ASSERT_EQ(pin(address), StatusCode::kOk);
  const std::vector<BlockAddress> thrice(3, address);
  EXPECT_EQ(pool_->unpin(kCallerSession, thrice).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(pool_->pins(address.index()), 2u);
  EXPECT_TRUE(pool_->unpin(kCallerSession, std::span(thrice).first(2)).ok());
  EXPECT_EQ(state(address), BlockState::kFree);
}

TEST_F(BlockPoolTest, ended_session_lets_go_of_everything) {
  const BlockAddress own = alloc(1, kPeer)[0];
  const BlockAddress shared = make_private();
  ASSERT_EQ(pin(shared, kPeer), StatusCode::kOk);
  ASSERT_EQ(pin(shared, kPeer), StatusCode::kOk);
  const BlockAddress published = make_published();
  pool_->pin_published(kPeer, published.index());
  pool_->end_session(kPeer);
  EXPECT_EQ(state(own), BlockState::kFree);
  EXPECT_EQ(pool_->check(own).code(), StatusCode::kStale);
  EXPECT_EQ(pool_->pins(shared.index()), 1u);
  EXPECT_EQ(pool_->pins(published.index()), 1u);
  pool_->end_session(kPeer);  // a second end finds nothing
  pool_->end_session(kCallerSession);
  EXPECT_EQ(state(shared), BlockState::kFree);
  EXPECT_EQ(state(published), BlockState::kPublished);
  EXPECT_EQ(pool_->audit().value().pins, 0u);
}

// ---- seal, publish ----------------------------------------------------------------------------

TEST_F(BlockPoolTest, seal_keeps_its_checksum_until_the_block_is_free) {
  const BlockAddress address = alloc(1)[0];
  EXPECT_EQ(pool_->checksum(address.index()), std::nullopt);
  pool_->seal(address.index(), 42);
  EXPECT_EQ(state(address), BlockState::kPrivate);
  EXPECT_EQ(pool_->checksum(address.index()), 42u);
  pool_->publish(address.index());
  EXPECT_EQ(pool_->checksum(address.index()), 42u);
  pool_->unpublish(address.index());
  ASSERT_EQ(free(address), StatusCode::kOk);
  EXPECT_EQ(pool_->checksum(address.index()), std::nullopt);
}

TEST_F(BlockPoolTest, filled_tail_is_sealed_anew) {
  const BlockAddress address = make_private();
  pool_->seal(address.index(), 1);
  pool_->seal(address.index(), 2);
  EXPECT_EQ(pool_->checksum(address.index()), 2u);
  pool_->seal(address.index(), std::nullopt);
  EXPECT_EQ(pool_->checksum(address.index()), std::nullopt);
}

TEST_F(BlockPoolTest, unpublished_block_stays_while_pinned_and_goes_when_not) {
  const BlockAddress pinned = make_published();
  pool_->unpublish(pinned.index());
  EXPECT_EQ(state(pinned), BlockState::kPrivate);
  const BlockAddress unpinned = make_published();
  ASSERT_EQ(unpin(unpinned), StatusCode::kOk);
  pool_->unpublish(unpinned.index());
  EXPECT_EQ(state(unpinned), BlockState::kFree);
  EXPECT_EQ(pool_->check(unpinned).code(), StatusCode::kStale);
}

TEST_F(BlockPoolTest, steps_that_the_diagram_does_not_have_abort) {
  const uint32_t writing = alloc(1)[0].index();
  const uint32_t published = make_published().index();
  const uint32_t reserved = reserve(kPeer).index();
  std::vector<BlockAddress> out;
  EXPECT_DEATH(pool_->publish(writing), "check failed");
  EXPECT_DEATH(pool_->unpublish(writing), "check failed");
  EXPECT_DEATH(pool_->quarantine(kCallerSession, writing, "x"), "check failed");
  EXPECT_DEATH(pool_->quarantine(kCallerSession, reserved, "x"), "check failed");
  EXPECT_DEATH(pool_->quarantine(kCallerSession, published, "x"), "check failed");
  EXPECT_DEATH(pool_->release(writing), "check failed");
  EXPECT_DEATH(pool_->seal(published, std::nullopt), "check failed");
  EXPECT_DEATH(pool_->seal(20, std::nullopt), "check failed");
  EXPECT_DEATH(pool_->pin_published(kPeer, writing), "check failed");
  EXPECT_DEATH((void)pool_->alloc(kPeer, 1, BlockState::kPublished, out), "check failed");
}

// ---- quarantine -------------------------------------------------------------------------------

TEST_F(BlockPoolTest, quarantined_reservation_is_not_given_out_until_released) {
  const BlockAddress address = reserve(kPeer);
  pool_->quarantine(kPeer, address.index(), "decode0");
  EXPECT_EQ(state(address), BlockState::kQuarantined);
  EXPECT_EQ(pool_->pins(address.index()), 0u);
  EXPECT_EQ(free(address, kPeer), StatusCode::kInvalidArgument);
  EXPECT_EQ(pool_->free_blocks(), kBlocks - 1);
  const PoolAudit audit = pool_->audit().value();
  EXPECT_EQ(audit.count(BlockState::kQuarantined), 1u);
  EXPECT_EQ(audit.quarantine.at("decode0"), 1u);
  pool_->end_session(kPeer);
  EXPECT_EQ(state(address), BlockState::kQuarantined);
  pool_->release(address.index());
  EXPECT_EQ(state(address), BlockState::kFree);
  EXPECT_EQ(pool_->check(address).code(), StatusCode::kStale);
  EXPECT_TRUE(pool_->audit().value().quarantine.empty());
}

TEST_F(BlockPoolTest, quarantine_is_counted_by_who_holds_it_back) {
  using Quarantine = decltype(PoolCounts::quarantine);
  const BlockAddress first = reserve(kPeer);
  const BlockAddress second = reserve(kPeer);
  const BlockAddress corrupt = make_private();
  ASSERT_EQ(pin(corrupt, kPeer), StatusCode::kOk);
  pool_->quarantine(kPeer, first.index(), "decode0");
  pool_->quarantine(kPeer, second.index(), "decode0");
  pool_->quarantine(kCallerSession, corrupt.index(), "corruption");
  EXPECT_EQ(pool_->counts().quarantine, (Quarantine{{"decode0", 2}, {"corruption", 1}}));
  EXPECT_EQ(pool_->counts().count(BlockState::kQuarantined), 3u);
  pool_->release(first.index());
  pool_->release(corrupt.index());
  EXPECT_EQ(pool_->counts().quarantine,
            (Quarantine{{"decode0", 1}, {std::string(kAwaitingUnpin), 1}}));
  pool_->end_session(kPeer);
  EXPECT_EQ(pool_->counts().quarantine, (Quarantine{{"decode0", 1}}));
  pool_->release(second.index());
  EXPECT_EQ(pool_->counts().quarantine, Quarantine());
}

TEST_F(BlockPoolTest, corrupt_block_waits_for_its_readers_and_its_release) {
  for (const bool release_first : {true, false}) {
    const BlockAddress address = make_private();
    ASSERT_EQ(pin(address, kPeer), StatusCode::kOk);
    pool_->quarantine(kCallerSession, address.index(), "corrupt");
    EXPECT_EQ(pool_->pins(address.index()), 1u);
    if (release_first) {
      pool_->release(address.index());
      EXPECT_EQ(pool_->audit().value().quarantine.at(std::string(kAwaitingUnpin)), 1u);
    }
    EXPECT_EQ(state(address), BlockState::kQuarantined);
    EXPECT_EQ(unpin(address, kPeer), StatusCode::kOk);
    if (!release_first) {
      EXPECT_EQ(state(address), BlockState::kQuarantined);
      pool_->release(address.index());
    }
    EXPECT_EQ(state(address), BlockState::kFree);
  }
}

// ---- generations ------------------------------------------------------------------------------

TEST_F(BlockPoolTest, generations_are_seen_through_the_memfd) {
  const HostMemory& memory = pool_->generation_memory();
  void* mapping = mmap(nullptr, memory.size(), PROT_READ, MAP_SHARED, memory.descriptor(), 0);
  ASSERT_NE(mapping, MAP_FAILED);
  const auto* words = static_cast<const std::atomic<uint64_t>*>(mapping);
  const std::vector<BlockAddress> blocks = alloc(3);
  for (const BlockAddress& address : blocks) EXPECT_EQ(words[address.index()], address.generation);
  ASSERT_EQ(free(blocks[1]), StatusCode::kOk);
  EXPECT_EQ(words[blocks[0].index()], blocks[0].generation);
  EXPECT_EQ(words[blocks[1].index()], blocks[1].generation + 1u);
  munmap(mapping, memory.size());
}

TEST_F(BlockPoolTest, block_whose_generation_would_wrap_is_retired) {
  BlockPoolBreaker(*pool_).set_generation(0, UINT32_MAX);
  std::vector<BlockAddress> blocks = alloc(2);
  EXPECT_EQ(blocks[0].generation, UINT32_MAX);
  EXPECT_TRUE(pool_->free(kCallerSession, blocks).ok());
  EXPECT_EQ(pool_->state(0), BlockState::kRetired);
  EXPECT_EQ(count(BlockState::kRetired), 1u);
  EXPECT_EQ(pool_->check(blocks[0]).code(), StatusCode::kStale);
  EXPECT_EQ(pool_->check(pool_->address(0)).code(), StatusCode::kStale);
  EXPECT_EQ(pool_->free_blocks(), kBlocks - 1);
  for (const BlockAddress& address : alloc(kBlocks - 1)) EXPECT_NE(address.index(), 0u);
}

// ---- audit ------------------------------------------------------------------------------------

class BlockPoolAudit : public BlockPoolTest {
 protected:
  void SetUp() override {
    BlockPoolTest::SetUp();
    pinned_ = make_private().index();
    published_ = make_published().index();
  }
  void TearDown() override {}

  uint32_t pinned_ = 0;
  uint32_t published_ = 0;
  static constexpr uint32_t kFreeBlock = 20;
};

TEST_F(BlockPoolAudit, finds_a_lost_pin) {
  BlockPoolBreaker(*pool_).lose_a_pin(pinned_);
  EXPECT_NE(audit_error().find("its sessions hold 1"), std::string::npos) << audit_error();
}

TEST_F(BlockPoolAudit, finds_a_block_that_nobody_holds) {
  BlockPoolBreaker(*pool_).forget_pins(pinned_);
  EXPECT_NE(audit_error().find("nobody holds it"), std::string::npos) << audit_error();
}

TEST_F(BlockPoolAudit, finds_a_pinned_free_block) {
  BlockPoolBreaker(*pool_).set_state(pinned_, BlockState::kFree);
  EXPECT_NE(audit_error().find("pinned"), std::string::npos) << audit_error();
}

TEST_F(BlockPoolAudit, finds_a_live_block_in_the_free_map) {
  BlockPoolBreaker(*pool_).give_behind_its_back(published_);
  EXPECT_NE(audit_error().find("free map says otherwise"), std::string::npos) << audit_error();
}

TEST_F(BlockPoolAudit, finds_a_free_block_missing_from_the_free_map) {
  ASSERT_EQ(pool_->unpin(kCallerSession, std::vector{pool_->address(published_)}).code(),
            StatusCode::kOk);
  BlockPoolBreaker(*pool_).set_state(published_, BlockState::kFree);
  EXPECT_NE(audit_error().find("free map says otherwise"), std::string::npos) << audit_error();
}

TEST_F(BlockPoolAudit, finds_a_state_changed_without_counting) {
  BlockPoolBreaker(*pool_).set_state(published_, BlockState::kPrivate);
  EXPECT_NE(audit_error().find("running counts"), std::string::npos) << audit_error();
}

TEST_F(BlockPoolAudit, finds_a_miscounted_quarantine) {
  BlockPoolBreaker(*pool_).miscount_a_writer();
  EXPECT_NE(audit_error().find("counts of the quarantine"), std::string::npos) << audit_error();
}

TEST_F(BlockPoolAudit, finds_a_writer_of_a_block_that_is_not_set_aside) {
  BlockPoolBreaker(*pool_).name_a_writer(published_);
  EXPECT_NE(audit_error().find("writer"), std::string::npos) << audit_error();
}

TEST_F(BlockPoolAudit, finds_a_used_up_generation_that_is_not_retired) {
  BlockPoolBreaker(*pool_).set_generation(kFreeBlock, uint64_t{1} << 32);
  EXPECT_NE(audit_error().find("retirement"), std::string::npos) << audit_error();
}

TEST_F(BlockPoolAudit, finds_a_mark_left_by_a_list) {
  BlockPoolBreaker(*pool_).leave_listed(kFreeBlock);
  EXPECT_NE(audit_error().find("listed"), std::string::npos) << audit_error();
}

TEST_F(BlockPoolAudit, finds_a_state_that_does_not_exist) {
  BlockPoolBreaker(*pool_).set_state(published_, static_cast<BlockState>(99));
  EXPECT_NE(audit_error().find("no such state"), std::string::npos) << audit_error();
}

// ---- create -----------------------------------------------------------------------------------

TEST(BlockPoolCreate, refuses_what_makes_no_pool) {
  const ContentSpec shape = {.layers = 2, .kv_heads = 2, .head_size = 8};
  const auto code = [](const PoolOptions& options) {
    return BlockPool::create(options, kIncarnation).status().code();
  };
  EXPECT_EQ(code({.shape = shape}), StatusCode::kInvalidArgument) << "no segment";
  EXPECT_EQ(code({.shape = shape, .segment_blocks = {4, 0}}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.shape = {}, .segment_blocks = {4}}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.shape = shape, .segment_blocks = {BlockAddress::kIndexMax, 2}}),
            StatusCode::kInvalidArgument)
      << "more blocks than an index can name";
  EXPECT_EQ(code({.medium = Medium::kDevice, .shape = shape, .segment_blocks = {4}}),
            StatusCode::kUnsupported);
}

TEST(BlockPoolCreate, pool_larger_than_memory_is_refused_before_any_of_it_is_touched) {
  const ContentSpec shape = {.layers = 64, .kv_heads = 64, .head_size = 1024};
  const Status status =
      BlockPool::create({.shape = shape, .segment_blocks = {4, 100000000}}, kIncarnation).status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("host pool"), std::string_view::npos) << status.message();
}

TEST(BlockPoolCreate, sum_of_segments_that_overflows_is_refused) {
  const ContentSpec shape = {.element = ElementType::kFloat32,
                             .layers = 1024,
                             .kv_heads = 65536,
                             .head_size = 65536,
                             .tokens_per_block = 65536};
  EXPECT_EQ(BlockPool::create({.shape = shape, .segment_blocks = {3, 3, 3, 3}}, kIncarnation)
                .status()
                .code(),
            StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mempool
