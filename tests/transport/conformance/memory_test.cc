// SPDX-License-Identifier: Apache-2.0
// Tests what every transport owes to memory: registration, keys, and calls outside of them.
#include <algorithm>

#include "tests/transport/conformance/conformance.h"

namespace mempool {
namespace {

using MemoryConformance = Conformance;
MEMPOOL_CONFORMANCE(MemoryConformance);

TEST_P(MemoryConformance, a_region_is_registered_once) {
  Region region;
  region.id = TransportNode::kRegion;
  region.base = source_->memory().data();
  region.bytes = 1;
  EXPECT_EQ(source_->transport().register_region(region).code(), StatusCode::kAlreadyExists);
}

TEST_P(MemoryConformance, an_empty_region_is_refused) {
  Region region;
  region.id = 8;
  EXPECT_EQ(source_->transport().register_region(region).code(), StatusCode::kInvalidArgument);
}

TEST_P(MemoryConformance, memory_of_a_kind_that_is_not_claimed_is_refused) {
  Region region;
  region.id = 8;
  region.kind = MemoryKind::kDevice;
  region.base = source_->memory().data();
  region.bytes = 1;
  const bool claimed = (capabilities().memory_kinds & static_cast<uint8_t>(region.kind)) != 0;
  EXPECT_EQ(source_->transport().register_region(region).code(),
            claimed ? StatusCode::kOk : StatusCode::kUnsupported);
}

TEST_P(MemoryConformance, a_region_that_is_not_registered_has_no_key_and_cannot_go) {
  EXPECT_EQ(source_->transport().export_key(99).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(source_->transport().deregister_region(99).code(), StatusCode::kNotFound);
}

TEST_P(MemoryConformance, a_region_can_go_and_come_again) {
  EXPECT_TRUE(source_->transport().deregister_region(TransportNode::kRegion).ok());
  EXPECT_FALSE(source_->transport().export_key(TransportNode::kRegion).ok());
  Region region;
  region.id = TransportNode::kRegion;
  region.base = source_->memory().data();
  region.bytes = source_->memory().size();
  EXPECT_TRUE(source_->transport().register_region(region).ok());
}

TEST_P(MemoryConformance, a_malformed_key_is_refused) {
  connect();
  std::vector<std::byte> key = target_->transport().export_key(TransportNode::kRegion).value();
  key.pop_back();
  EXPECT_EQ(endpoint_->import_key(TransportNode::kRegion, key).code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(endpoint_->import_key(TransportNode::kRegion, {}).code(), StatusCode::kInvalidArgument);
}

TEST_P(MemoryConformance, a_key_of_another_region_is_refused) {
  connect();
  const std::vector<std::byte> key =
      target_->transport().export_key(TransportNode::kRegion).value();
  EXPECT_EQ(endpoint_->import_key(8, key).code(), StatusCode::kInvalidArgument);
}

TEST_P(MemoryConformance, a_key_of_another_incarnation_is_stale) {
  connect();
  const std::vector<std::byte> key =
      source_->transport().export_key(TransportNode::kRegion).value();
  EXPECT_EQ(endpoint_->import_key(TransportNode::kRegion, key).code(), StatusCode::kStale);
}

// A peer tells its keys again whenever it says hello; also late, after it has made a new one.
TEST_P(MemoryConformance, a_key_that_comes_again_amid_calls_changes_nothing_for_them) {
  connect();
  const std::vector<std::byte> old =
      target_->transport().export_key(TransportNode::kRegion).value();
  const Region region = target_->region();
  ASSERT_TRUE(target_->transport().deregister_region(region.id).ok());
  ASSERT_TRUE(target_->transport().register_region(region).ok());
  const std::vector<std::byte> key = target_->transport().export_key(region.id).value();
  ASSERT_TRUE(endpoint_->import_key(region.id, key).ok());
  const std::vector<uint64_t> cookies = fill_pipe();
  ASSERT_TRUE(endpoint_->import_key(region.id, key).ok());
  (void)endpoint_->import_key(region.id, old);  // some know that it is no more
  ASSERT_TRUE(endpoint_->import_key(region.id, key).ok());
  ASSERT_TRUE(run_until_ended(cookies));
  for (const uint64_t cookie : cookies) EXPECT_TRUE(source_->completion_of(cookie).ok());
  ASSERT_TRUE(complete(Operation::kWrite, {pair(0, 0, 100)}).ok());
  notify_and_wait(kSlot);
  EXPECT_TRUE(source_->lost.empty());
  const uint64_t bytes = std::min<uint64_t>(capabilities().message_bytes, source_->memory().size());
  EXPECT_TRUE(std::equal(source_->memory().begin(), source_->memory().begin() + bytes,
                         target_->memory().begin()));
}

TEST_P(MemoryConformance, a_call_outside_of_known_memory_starts_nothing) {
  connect();
  const uint64_t size = source_->memory().size();
  const std::vector<std::byte> before = target_->memory();
  const std::vector<RunPair> outside = {
      {99, 7, 0, 0, 16},
      {7, 99, 0, 0, 16},
      {7, 7, size - 15, 0, 16},
      {7, 7, 0, size - 15, 16},
      {7, 7, UINT64_MAX - 7, 0, 16},
      {7, 7, 0, UINT64_MAX - 7, 16},
      {7, 7, size + 1, 0, 1},
      {7, 7, 0, size + 1, 1},
  };
  for (const RunPair& bad : outside) {
    for (const Operation operation : {Operation::kWrite, Operation::kRead}) {
      std::vector<RunPair> pairs = {bad};
      if (takes(operation, 2, 2)) pairs.insert(pairs.begin(), pair(0, 0, 8));
      EXPECT_EQ(post(operation, pairs).code(), StatusCode::kInvalidArgument)
          << bad.local_region << "/" << bad.local_offset << " to " << bad.remote_region << "/"
          << bad.remote_offset;
    }
  }
  notify_and_wait(kSlot);
  EXPECT_EQ(target_->memory(), before);
  EXPECT_EQ(source_->completions.size(), 1u);  // the notification's
  EXPECT_EQ(endpoint_->counts().bytes, 0u);
}

}  // namespace
}  // namespace mempool
