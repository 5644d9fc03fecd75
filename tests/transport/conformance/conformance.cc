// SPDX-License-Identifier: Apache-2.0
// Owns the list of transports that the conformance suite runs on, and its fixture.
#include "tests/transport/conformance/conformance.h"

#include <algorithm>
#include <cstdlib>

#include "core/random.h"

namespace mempool {

namespace {

#ifdef MEMPOOL_HAS_UCX
/// UCX needs no device over tcp; there a put is taken by the target's thread.
Subject ucx_over_tcp() {
  return {.label = "ucx_tcp",
          .transport = "ucx",
          .options = {{"tls", "tcp"},
                      {"devices", "lo"},
                      {"trust_peers", "1"},
                      {"self_test", "0"},
                      {"message_bytes", "262144"},
                      {"calls_in_flight", "16"}},
          .proves_token = true,
          .may_stall = true,
          .begins_at_post = true,
          .flushes = true,
          .peer_may_go = false};
}

Subject ucx_over_rc(const std::string& source, const std::string& target) {
  const auto options = [](const std::string& device) -> std::map<std::string, std::string> {
    return {{"devices", device + ":1"},
            {"config", "IB_GID_INDEX=0"},
            {"self_test", "0"},
            {"message_bytes", "1048576"},
            {"calls_in_flight", "16"}};
  };
  return {.label = "ucx_rc",
          .transport = "ucx",
          .options = options(source),
          .target_options = options(target),
          .proves_token = true,
          .begins_at_post = true};
}
#endif

/// Transports that need RDMA devices: of two, named by MEMPOOL_RDMA_DEVICES ("rxa,rxb"), one serves
/// the source and the other one the target.
void add_rdma_subjects(std::vector<Subject>& subjects) {
  const char* const names = std::getenv("MEMPOOL_RDMA_DEVICES");
  if (names == nullptr) return;
  const std::string both = names;
  const std::string source = both.substr(0, both.find(','));
  const std::string target = both.substr(both.find(',') + 1);
  const auto verbs = [&](std::string label, std::map<std::string, std::string> options) {
    Subject subject{.label = std::move(label), .transport = "verbs", .proves_token = true};
    options.emplace("queue_depth", "32");
    options.emplace("message_bytes", "1048576");
    subject.options = subject.target_options = std::move(options);
    subject.options.emplace("devices", source);
    subject.target_options.emplace("devices", target);
    subject.begins_at_post = subject.begins_in_next_turn = true;
    subjects.push_back(std::move(subject));
  };
  verbs("verbs", {});
  verbs("verbs_of_three_queue_pairs", {{"queue_pairs", "3"}});
  verbs("verbs_that_spins", {{"spin", "1"}});
  verbs("verbs_of_two_rails", {{"devices", both}});
#ifdef MEMPOOL_HAS_UCX
  subjects.push_back(ucx_over_rc(source, target));
#endif
}

}  // namespace

std::vector<Subject> subjects() {
  const std::map<std::string, std::string> three_streams = {{"streams", "3"}};
  std::vector<Subject> subjects = {
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
#ifdef MEMPOOL_HAS_UCX
  subjects.push_back(ucx_over_tcp());
#endif
  add_rdma_subjects(subjects);
  return subjects;
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

std::vector<uint64_t> Conformance::fill_pipe() {
  std::vector<uint64_t> cookies;
  const uint64_t bytes = std::min<uint64_t>(capabilities().message_bytes, source_->memory().size());
  for (bool progress = true; progress;) {
    progress = false;
    while (post(Operation::kWrite, {pair(0, 0, bytes)}).ok()) {
      cookies.push_back(next_cookie_ - 1);
      progress = true;
    }
    if (!GetParam().may_stall) break;  // who does not wait for the peer would never be full
    while (source_->poll()) {
    }
  }
  EXPECT_FALSE(cookies.empty());
  return cookies;
}

bool Conformance::run_until_ended(const std::vector<uint64_t>& cookies) {
  return run_until([&] {
    return std::ranges::all_of(cookies,
                               [&](uint64_t cookie) { return source_->completed(cookie); });
  });
}

void Conformance::expect_ended(const std::vector<uint64_t>& cookies) const {
  for (const uint64_t cookie : cookies) {
    size_t times = 0;
    for (const TransportNode::Completion& one : source_->completions) {
      if (one.cookie != cookie) continue;
      ++times;
      EXPECT_TRUE(one.status.ok() || one.status.code() == StatusCode::kUnavailable)
          << one.status.to_string();
    }
    EXPECT_EQ(times, 1u) << "completions of call " << cookie;
  }
}

}  // namespace mempool
