// SPDX-License-Identifier: Apache-2.0
// Tests what shm maps, when, and for how long.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "tests/transport/transport_node.h"

namespace mempool {
namespace {

constexpr uint64_t kSourceId = 0xa1;
constexpr uint64_t kTargetId = 0xb2;
constexpr Slot kSlot{3, 1};
constexpr uint32_t kRegion = TransportNode::kRegion;
constexpr uint32_t kLater = 8;

std::unique_ptr<TransportNode> make_node(uint64_t incarnation, bool anonymous = false) {
  NodeOptions options;
  options.transport = "shm";
  options.incarnation = incarnation;
  options.region_bytes = 64 << 10;
  options.anonymous = anonymous;
  return std::make_unique<TransportNode>(options);
}

// Read-only mappings that this process has of memory of this name.
size_t mappings(const std::string& name) {
  std::ifstream maps("/proc/self/maps");
  size_t count = 0;
  for (std::string line; std::getline(maps, line);) {
    count += line.find("r--s") != std::string::npos &&
             line.find("/memfd:" + name + " ") != std::string::npos;
  }
  return count;
}

class ShmMemoryTest : public testing::Test {
 protected:
  void start(bool anonymous_source, bool anonymous_target) {
    endpoint_.reset();  // goes before its transport
    source_ = make_node(kSourceId, anonymous_source);
    target_ = make_node(kTargetId, anonymous_target);
    endpoint_ = source_->connect(*target_);
    EXPECT_TRUE(target_->transport().open_slot(kSourceId, kSlot).ok());
  }
  Status complete(Operation operation, const RunPair& pair) {
    source_->completions.clear();
    const Status posted = endpoint_->post({operation, kSlot, 1, {&pair, 1}});
    if (!posted.ok()) return posted;
    EXPECT_TRUE(run_until({source_.get(), target_.get()}, [&] { return source_->completed(1); }));
    return source_->completion_of(1);
  }

  std::unique_ptr<TransportNode> source_;
  std::unique_ptr<TransportNode> target_;
  std::unique_ptr<Endpoint> endpoint_;
};

TEST_F(ShmMemoryTest, anonymous_memory_can_be_written_to_and_nothing_else) {
  start(false, true);
  source_->memory()[5] = std::byte{42};
  EXPECT_TRUE(complete(Operation::kWrite, {kRegion, kRegion, 0, 100, 10}).ok());
  EXPECT_EQ(target_->memory()[105], std::byte{42});
  const Status read = complete(Operation::kRead, {kRegion, kRegion, 0, 100, 10});
  EXPECT_EQ(read.code(), StatusCode::kUnsupported);
  EXPECT_NE(read.message().find("anonymous"), std::string_view::npos) << read.to_string();
  start(true, false);
  const Status write = complete(Operation::kWrite, {kRegion, kRegion, 0, 100, 10});
  EXPECT_EQ(write.code(), StatusCode::kUnsupported);
  EXPECT_NE(write.message().find("anonymous"), std::string_view::npos) << write.to_string();
  EXPECT_TRUE(complete(Operation::kRead, {kRegion, kRegion, 0, 100, 10}).ok());
}

TEST_F(ShmMemoryTest, memory_that_may_be_resized_is_not_registered) {
  start(false, false);
  const int descriptor = memfd_create("loose", MFD_CLOEXEC);
  Region region;
  region.id = kLater;
  region.base = source_->memory().data();
  region.bytes = 1;
  region.descriptor = descriptor;
  const Status refused = source_->transport().register_region(region);
  EXPECT_EQ(refused.code(), StatusCode::kUnsupported);
  EXPECT_NE(refused.message().find("sealed"), std::string_view::npos) << refused.to_string();
  EXPECT_FALSE(source_->transport().export_key(kLater).ok());
  close(descriptor);
}

TEST_F(ShmMemoryTest, what_is_registered_later_is_given_later_and_what_goes_is_unmapped) {
  start(false, false);
  for (const char* name : {"first", "second"}) {
    const HostMemory memory = HostMemory::create(name, 8192).value();
    memory.data()[4097] = std::byte{7};
    Region region;
    region.id = kLater;
    region.base = memory.data();
    region.bytes = memory.size();
    region.descriptor = memory.descriptor();
    ASSERT_TRUE(source_->transport().register_region(region).ok());
    EXPECT_TRUE(complete(Operation::kWrite, {kLater, kRegion, 4096, 0, 100}).ok());
    EXPECT_EQ(target_->memory()[1], std::byte{7});
    target_->memory()[1] = std::byte{0};
    EXPECT_EQ(mappings(name), 1u);
    ASSERT_TRUE(source_->transport().deregister_region(kLater).ok());
    settle({source_.get(), target_.get()});
    EXPECT_EQ(mappings(name), 0u);
  }
}

TEST_F(ShmMemoryTest, connections_share_their_mappings_and_the_last_one_takes_them_along) {
  start(false, false);
  EXPECT_EQ(mappings("node"), 2u);  // the target's here and the source's there
  std::unique_ptr<Endpoint> second = source_->connect(*target_);
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(mappings("node"), 2u);
  endpoint_.reset();
  ASSERT_TRUE(run_until({source_.get(), target_.get()}, [&] { return target_->lost.size() == 1; }));
  EXPECT_EQ(mappings("node"), 2u);
  second.reset();
  ASSERT_TRUE(run_until({source_.get(), target_.get()}, [&] { return target_->lost.size() == 2; }));
  EXPECT_EQ(mappings("node"), 0u);
}

TEST_F(ShmMemoryTest, a_fence_drops_the_mappings) {
  start(false, false);
  target_->transport().fence(kSourceId);
  EXPECT_EQ(mappings("node"), 1u);  // the source has not heard of it yet
  ASSERT_TRUE(run_until({source_.get(), target_.get()}, [&] { return !source_->lost.empty(); }));
  EXPECT_EQ(mappings("node"), 0u);
}

}  // namespace
}  // namespace mempool
