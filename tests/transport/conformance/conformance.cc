// SPDX-License-Identifier: Apache-2.0
// Owns the list of transports that the conformance suite runs on, and its fixture.
#include "tests/transport/conformance/conformance.h"

#include <cstdlib>

#include "core/random.h"

namespace mempool {

namespace {

#ifdef MEMPOOL_HAS_UCX
std::map<std::string, std::string> ucx_over_tcp() {
  return {{"tls", "tcp"},     {"devices", "lo"},           {"trust_peers", "1"},
          {"self_test", "0"}, {"message_bytes", "262144"}, {"calls_in_flight", "16"}};
}

std::map<std::string, std::string> ucx_over_rc(const std::string& device) {
  return {{"devices", device + ":1"}, {"config", "IB_GID_INDEX=0"}, {"message_bytes", "1048576"}};
}
#endif

/// Add the transports that are modules, as far as they are built. MEMPOOL_RDMA_DEVICES names two
/// RDMA devices that reach each other, as "rxa,rxb".
void add_modules([[maybe_unused]] std::vector<Subject>& all) {
#ifdef MEMPOOL_HAS_UCX
  // A put over tcp is taken by the target's thread.
  all.push_back({.label = "ucx_tcp",
                 .transport = "ucx",
                 .options = ucx_over_tcp(),
                 .proves_token = true,
                 .may_stall = true,
                 .begins_at_post = true,
                 .flushes = true,
                 .peer_may_go = false});
  if (const char* devices = std::getenv("MEMPOOL_RDMA_DEVICES"); devices != nullptr) {
    const std::string both = devices;
    all.push_back({.label = "ucx_rc",
                   .transport = "ucx",
                   .options = ucx_over_rc(both.substr(0, both.find(','))),
                   .target_options = ucx_over_rc(both.substr(both.find(',') + 1)),
                   .proves_token = true,
                   .begins_at_post = true});
  }
#endif
}

}  // namespace

std::vector<Subject> subjects() {
  const std::map<std::string, std::string> three_streams = {{"streams", "3"}};
  std::vector<Subject> all = {
      {.label = "local", .transport = "local"},
      {.label = "tcp", .transport = "tcp", .proves_token = true, .may_stall = true},
      {.label = "tcp_of_three_streams",
       .transport = "tcp",
       .options = three_streams,
       .proves_token = true,
       .may_stall = true},
      {.label = "shm",
       .transport = "shm",
       .proves_token = true,
       .may_stall = true,
       .lands_at_once = true},
      {.label = "counting_local", .transport = "counting_local"},
      {.label = "shm_of_three_threads",
       .transport = "shm",
       .options = {{"copy_threads", "3"}},
       .proves_token = true,
       .may_stall = true,
       .lands_at_once = true},
      {.label = "counting_tcp",
       .transport = "counting_tcp",
       .proves_token = true,
       .may_stall = true},
      {.label = "counting_shm",
       .transport = "counting_shm",
       .proves_token = true,
       .may_stall = true,
       .lands_at_once = true},
      {.label = "fault_without_faults",
       .transport = "fault_tcp",
       .proves_token = true,
       .may_stall = true},
      {.label = "fault_shm_without_faults",
       .transport = "fault_shm",
       .proves_token = true,
       .may_stall = true,
       .lands_at_once = true},
  };
  add_modules(all);
  return all;
}

Conformance::Conformance(uint64_t region_bytes)
    : source_(std::make_unique<TransportNode>(options_of(kSourceId, region_bytes))),
      target_(std::make_unique<TransportNode>(options_of(kTargetId, region_bytes))) {
  fill(*source_, 1);
  fill(*target_, 2);
}

NodeOptions Conformance::options_of(uint64_t incarnation, uint64_t region_bytes) const {
  NodeOptions options;
  options.transport = GetParam().transport;
  const bool others = incarnation == kTargetId && !GetParam().target_options.empty();
  options.options = others ? GetParam().target_options : GetParam().options;
  options.incarnation = incarnation;
  options.region_bytes = region_bytes;
  return options;
}

void Conformance::connect() {
  endpoint_ = source_->connect(*target_);
  ASSERT_NE(endpoint_, nullptr);
  for (const Slot slot : {kSlot, kOtherSlot}) {
    ASSERT_TRUE(target_->transport().open_slot(kSourceId, slot).ok());
  }
}

void Conformance::fill(TransportNode& node, uint64_t seed) {
  Random random(seed);
  for (std::byte& byte : node.memory()) byte = static_cast<std::byte>(random.next());
}

Status Conformance::post(Operation operation, const std::vector<RunPair>& pairs, Slot slot) {
  Call call;
  call.operation = operation;
  call.slot = slot;
  call.cookie = next_cookie_++;
  call.pairs = pairs;
  return endpoint_->post(call);
}

Status Conformance::complete(Operation operation, const std::vector<RunPair>& pairs, Slot slot) {
  const uint64_t cookie = next_cookie_;
  const Status posted = post(operation, pairs, slot);
  if (!posted.ok()) return posted;
  EXPECT_FALSE(source_->completed(cookie)) << "post() may not complete from inside";
  EXPECT_TRUE(run_until([&] { return source_->completed(cookie); }));
  return source_->completion_of(cookie);
}

void Conformance::notify_and_wait(Slot slot) {
  const size_t before = target_->notified.size();
  const uint64_t cookie = next_cookie_++;
  Status posted;
  ASSERT_TRUE(run_until([&] {
    posted = endpoint_->notify(slot, cookie);
    return posted.code() != StatusCode::kResourceExhausted;
  }));
  ASSERT_TRUE(posted.ok()) << posted.to_string();
  EXPECT_FALSE(source_->completed(cookie)) << "notify() may not complete from inside";
  ASSERT_TRUE(run_until([&] {
    return source_->completed(cookie) && target_->notified.size() >= before + endpoint_->lanes();
  }));
  EXPECT_TRUE(source_->completion_of(cookie).ok());
  EXPECT_EQ(target_->notified.size(), before + endpoint_->lanes());
  EXPECT_EQ(target_->notified.back(), slot);
}

std::vector<uint64_t> Conformance::stall() {
  std::vector<uint64_t> cookies;
  const uint64_t bytes = std::min<uint64_t>(capabilities().message_bytes, source_->memory().size());
  for (bool progress = true; progress;) {
    progress = false;
    while (post(Operation::kWrite, {pair(0, 0, bytes)}).ok()) {
      cookies.push_back(next_cookie_ - 1);
      progress = true;
    }
    while (source_->poll()) {
    }
  }
  return cookies;
}

}  // namespace mempool
