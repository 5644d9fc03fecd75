// SPDX-License-Identifier: Apache-2.0
// Tests several devices at once: a plan is shared among them, and one that dies under load costs
// neither a call nor a byte. Needs two pairs of devices, named by MEMPOOL_RDMA_RAILS
// ("rxa0,rxa1/rxb0,rxb1"), on cables of which vb0 or vb1 is the target's end.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "core/random.h"
#include "tests/transport/verbs/raw_verbs_peer.h"

namespace mempool {
namespace {

constexpr uint64_t kSource = 0xa1;
constexpr uint64_t kTarget = 0xb2;
constexpr uint64_t kBytes = uint64_t{4} << 20;
constexpr uint64_t kPiece = uint64_t{64} << 10;

class VerbsRails : public testing::Test {
 protected:
  void SetUp() override {
    const char* const rails = std::getenv("MEMPOOL_RDMA_RAILS");
    if (rails == nullptr) GTEST_SKIP() << "no two pairs of RDMA devices";
    const std::string both = rails;
    // Short, so that a dead cable is found out in tenths of a second.
    const std::map<std::string, std::string> options = {
        {"queue_pairs", "2"}, {"timeout", "14"}, {"retries", "3"}};
    source_ = node(both.substr(0, both.find('/')), kSource, options);
    target_ = node(both.substr(both.find('/') + 1), kTarget, options);
    endpoint_ = source_->connect(*target_);
    ASSERT_NE(endpoint_, nullptr);
    ASSERT_EQ(endpoint_->lanes(), 4u);
  }

  void TearDown() override {
    if (!source_) return;  // skipped
    for (const char* link : {"va0", "vb0", "va1", "vb1"}) set(link, "up");
  }

  static std::unique_ptr<TransportNode> node(const std::string& devices, uint64_t incarnation,
                                             const std::map<std::string, std::string>& options) {
    NodeOptions made = verbs_node(devices, incarnation, options);
    made.region_bytes = kBytes;
    return std::make_unique<TransportNode>(made);
  }

  static void set(const std::string& link, const std::string& state) {
    EXPECT_EQ(std::system(("ip link set " + link + " " + state).c_str()), 0);
  }

  bool run(const std::function<bool()>& condition) {
    return run_until({source_.get(), target_.get()}, condition);
  }

  // Move all memory in pieces under a slot, doing `in_the_middle` once half of it is posted, and
  // notify. Every call must end well, and each lane tell the target once.
  void move(Slot slot, Operation operation, const std::function<void()>& in_the_middle) {
    Random random(slot.index);
    const bool write = operation == Operation::kWrite;
    TransportNode& from = write ? *source_ : *target_;
    for (std::byte& byte : from.memory()) byte = static_cast<std::byte>(random.next());
    ASSERT_TRUE(target_->transport().open_slot(kSource, slot).ok());
    source_->completions.clear();
    target_->notified.clear();
    const uint64_t pieces = kBytes / kPiece;
    for (uint64_t i = 0; i < pieces; ++i) {
      if (i == pieces / 2) {
        ASSERT_TRUE(run([&] { return source_->completions.size() > 2; }));
        in_the_middle();
      }
      const RunPair pair{TransportNode::kRegion, TransportNode::kRegion, i * kPiece, i * kPiece,
                         kPiece};
      ASSERT_TRUE(run([&] {
        const Status posted = endpoint_->post({operation, slot, i, {&pair, 1}});
        EXPECT_TRUE(posted.ok() || posted.code() == StatusCode::kResourceExhausted)
            << posted.to_string();
        return posted.code() != StatusCode::kResourceExhausted;
      }));
    }
    ASSERT_TRUE(endpoint_->notify(slot, pieces).ok());
    ASSERT_TRUE(run([&] { return source_->completions.size() == pieces + 1; }));
    for (const auto& completion : source_->completions) {
      EXPECT_TRUE(completion.status.ok()) << completion.status.to_string();
    }
    ASSERT_TRUE(run([&] { return target_->notified.size() == endpoint_->lanes(); }));
    EXPECT_EQ(std::memcmp(source_->memory().data(), target_->memory().data(), kBytes), 0);
    target_->transport().close_slot(kSource, slot);
  }

  std::unique_ptr<TransportNode> source_;
  std::unique_ptr<TransportNode> target_;
  std::unique_ptr<Endpoint> endpoint_;
};

TEST_F(VerbsRails, a_plan_is_shared_among_them) {
  move({1, 1}, Operation::kWrite, [] {});
  move({2, 1}, Operation::kRead, [] {});
  EXPECT_EQ(endpoint_->route().find("set aside"), std::string::npos) << endpoint_->route();
}

TEST_F(VerbsRails, one_that_dies_under_load_costs_no_call_and_no_byte) {
  for (const Operation operation : {Operation::kWrite, Operation::kRead}) {
    SCOPED_TRACE(operation == Operation::kWrite ? "write" : "read");
    const uint32_t index = operation == Operation::kWrite ? 1 : 2;
    const std::string end = operation == Operation::kWrite ? "vb0" : "va1";
    if (operation == Operation::kRead) {  // anew, for the first one is used up
      endpoint_.reset();
      set("vb0", "up");
      endpoint_ = source_->connect(*target_);
      ASSERT_NE(endpoint_, nullptr);
    }
    move({index, 1}, operation, [&] { set(end, "down"); });
    EXPECT_NE(endpoint_->route().find("set aside"), std::string::npos) << endpoint_->route();
    EXPECT_TRUE(source_->lost.empty());
    move({index, 2}, operation, [] {});  // goes on over the other one
  }
}

TEST_F(VerbsRails, one_that_is_dead_from_the_start_is_not_used) {
  endpoint_.reset();
  set("vb1", "down");
  endpoint_ = source_->connect(*target_);
  ASSERT_NE(endpoint_, nullptr);
  EXPECT_NE(endpoint_->route().find("set aside"), std::string::npos) << endpoint_->route();
  move({3, 1}, Operation::kWrite, [] {});
}

TEST_F(VerbsRails, when_all_are_dead_the_connection_is_lost) {
  move({4, 1}, Operation::kWrite, [] {});
  set("vb0", "down");
  set("vb1", "down");
  const RunPair pair{TransportNode::kRegion, TransportNode::kRegion, 0, 0, kPiece};
  source_->completions.clear();
  ASSERT_TRUE(endpoint_->post({Operation::kWrite, {5, 1}, 77, {&pair, 1}}).ok());
  ASSERT_TRUE(run([&] { return !source_->lost.empty(); }));
  EXPECT_EQ(source_->completion_of(77).code(), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace mempool
