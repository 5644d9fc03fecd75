// SPDX-License-Identifier: Apache-2.0
// Tests that every transport moves the right bytes, within the limits it claims and not beyond.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/random.h"
#include "tests/transport/conformance/conformance.h"

namespace mempool {
namespace {

class TransferConformance : public Conformance {
 protected:
  TransferConformance() : Conformance(uint64_t{6} << 20) {}

  NodeMemory& from(Operation operation) {
    return operation == Operation::kWrite ? source_->memory() : target_->memory();
  }
  NodeMemory& into(Operation operation) {
    return operation == Operation::kWrite ? target_->memory() : source_->memory();
  }

  // Run one call and compare all memory with what a plain copy makes of it.
  void check(Operation operation, const std::vector<RunPair>& pairs) {
    std::vector<std::byte> expected = into(operation);
    for (const RunPair& one : pairs) {
      const bool write = operation == Operation::kWrite;
      std::memcpy(expected.data() + (write ? one.remote_offset : one.local_offset),
                  from(operation).data() + (write ? one.local_offset : one.remote_offset),
                  one.bytes);
    }
    const Status status = complete(operation, pairs);
    ASSERT_TRUE(status.ok()) << status.to_string();
    if (operation == Operation::kWrite) notify_and_wait(kSlot);
    ASSERT_TRUE(into(operation) == expected);
  }

  bool claims(Operation operation) const {
    return operation == Operation::kWrite ? capabilities().write : capabilities().read;
  }
};

MEMPOOL_CONFORMANCE(TransferConformance);

constexpr Operation kBoth[] = {Operation::kWrite, Operation::kRead};

TEST_P(TransferConformance, what_is_not_claimed_says_so) {
  connect();
  for (const Operation operation : kBoth) {
    if (claims(operation)) continue;
    EXPECT_EQ(post(operation, {pair(0, 0, 1)}).code(), StatusCode::kUnsupported);
  }
  if (!capabilities().notify) {
    EXPECT_EQ(endpoint_->notify(kSlot, 1).code(), StatusCode::kUnsupported);
  }
}

TEST_P(TransferConformance, moves_one_range) {
  connect();
  for (const Operation operation : kBoth) {
    if (claims(operation)) check(operation, {pair(1000, 70000, 4096)});
  }
}

TEST_P(TransferConformance, moves_single_bytes_at_both_ends_of_a_region) {
  connect();
  const uint64_t last = source_->memory().size() - 1;
  for (const Operation operation : kBoth) {
    if (!claims(operation)) continue;
    check(operation, {pair(0, last, 1)});
    check(operation, {pair(last, 0, 1)});
  }
}

TEST_P(TransferConformance, gathers_as_many_pieces_as_it_claims) {
  connect();
  for (const Operation operation : kBoth) {
    if (!claims(operation)) continue;
    const uint32_t pieces = std::min(capabilities().limits(operation).local_pieces, 4000u);
    std::vector<RunPair> pairs;
    for (uint32_t i = 0; i < pieces; ++i) pairs.push_back(pair(i * 100, 5000 + i * 40, 40));
    check(operation, pairs);
  }
}

TEST_P(TransferConformance, spreads_over_as_many_ranges_as_it_claims) {
  connect();
  for (const Operation operation : kBoth) {
    if (!claims(operation)) continue;
    const CallLimits limits = capabilities().limits(operation);
    const uint32_t ranges = std::min({limits.remote_ranges, limits.local_pieces, 4000u});
    std::vector<RunPair> pairs;
    for (uint32_t i = 0; i < ranges; ++i) pairs.push_back(pair(i * 300, i * 200, 1 + i % 150));
    check(operation, pairs);
  }
}

TEST_P(TransferConformance, more_pieces_or_ranges_than_claimed_are_refused) {
  connect();
  for (const Operation operation : kBoth) {
    const CallLimits limits = capabilities().limits(operation);
    const uint64_t many = uint64_t{std::min(limits.local_pieces, limits.remote_ranges)} + 1;
    if (!claims(operation) || many > 100000) continue;  // as good as no limit
    std::vector<RunPair> pairs;
    for (uint64_t i = 0; i < many; ++i) pairs.push_back(pair(i * 2, i * 3, 1));
    EXPECT_EQ(post(operation, pairs).code(), StatusCode::kUnsupported);
  }
}

TEST_P(TransferConformance, moves_the_largest_call_and_refuses_a_larger_one) {
  connect();
  const uint64_t most = capabilities().message_bytes;
  ASSERT_LT(most, source_->memory().size());
  for (const Operation operation : kBoth) {
    if (!claims(operation)) continue;
    check(operation, {pair(0, 1, most)});
    EXPECT_EQ(post(operation, {pair(0, 0, most), pair(most, most, 1)}).code(),
              StatusCode::kUnsupported);
  }
}

TEST_P(TransferConformance, a_full_pipe_says_so_and_a_completion_makes_room) {
  connect();
  for (const Operation operation : kBoth) {
    if (!claims(operation)) continue;
    source_->completions.clear();
    const uint32_t most = operation == Operation::kWrite ? capabilities().calls_in_flight
                                                         : std::min(capabilities().calls_in_flight,
                                                                    capabilities().reads_in_flight);
    for (uint32_t i = 0; i < most; ++i) {
      ASSERT_TRUE(post(operation, {pair(i, 2 * i, 1)}).ok()) << i;
    }
    EXPECT_EQ(post(operation, {pair(0, 0, 1)}).code(), StatusCode::kResourceExhausted);
    if (operation == Operation::kWrite && most == capabilities().calls_in_flight) {
      EXPECT_EQ(endpoint_->notify(kSlot, 999999).code(), StatusCode::kResourceExhausted);
    }
    ASSERT_TRUE(run_until([&] { return !source_->completions.empty(); }));
    EXPECT_TRUE(post(operation, {pair(0, 0, 1)}).ok());
    ASSERT_TRUE(run_until([&] { return source_->completions.size() == most + 1; }));
  }
}

TEST_P(TransferConformance, random_calls_move_the_right_bytes) {
  connect();
  Random random(20240229);
  for (int round = 0; round < 60; ++round) {
    const Operation operation = kBoth[random.below(2)];
    if (!claims(operation)) continue;
    const CallLimits limits = capabilities().limits(operation);
    const uint64_t most = std::min<uint64_t>({limits.local_pieces, limits.remote_ranges, 1000});
    const uint64_t count =
        1 + random.below(random.chance(0.2) ? most : std::min<uint64_t>(most, 20));
    // Disjoint on both sides, in mixed order; sizes from single bytes to runs past any buffer.
    const uint64_t stride = source_->memory().size() / count;
    const uint64_t longest = std::min(stride, limits.bytes / count);
    std::vector<uint64_t> places(count);
    std::iota(places.begin(), places.end(), 0);
    for (size_t i = count; i > 1; --i) std::swap(places[i - 1], places[random.below(i)]);
    std::vector<RunPair> pairs;
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t bytes =
          1 + random.below(random.chance(0.5) ? std::min<uint64_t>(longest, 100) : longest);
      const uint64_t slack = stride - bytes + 1;
      pairs.push_back(
          pair(i * stride + random.below(slack), places[i] * stride + random.below(slack), bytes));
    }
    check(operation, pairs);
  }
}

TEST_P(TransferConformance, many_calls_at_once_move_the_right_bytes) {
  connect();
  constexpr uint64_t kPieces = 200;
  constexpr uint64_t kBytes = 30000;
  std::vector<std::byte> expected = target_->memory();
  for (uint64_t i = 0; i < kPieces;) {
    const uint64_t to = (i * 7919) % kPieces;  // a permutation
    const Status status = post(Operation::kWrite, {pair(i * kBytes, to * kBytes, kBytes)});
    if (status.code() == StatusCode::kResourceExhausted) {
      const size_t before = source_->completions.size();
      ASSERT_TRUE(run_until([&] { return source_->completions.size() > before; }));
      continue;
    }
    ASSERT_TRUE(status.ok()) << status.to_string();
    std::memcpy(expected.data() + to * kBytes, source_->memory().data() + i * kBytes, kBytes);
    ++i;
  }
  ASSERT_TRUE(run_until([&] { return source_->completions.size() == kPieces; }));
  notify_and_wait(kSlot);
  EXPECT_TRUE(target_->memory() == expected);
}

TEST_P(TransferConformance, both_directions_run_at_once) {
  connect();
  const std::unique_ptr<Endpoint> back = target_->connect(*source_);
  ASSERT_TRUE(source_->transport().open_slot(kTargetId, kSlot).ok());
  const uint64_t half = source_->memory().size() / 2;
  const uint64_t bytes = std::min<uint64_t>(capabilities().message_bytes, half);
  std::vector<std::byte> expected_here = source_->memory();
  std::vector<std::byte> expected_there = target_->memory();
  std::memcpy(expected_there.data(), source_->memory().data(), bytes);
  std::memcpy(expected_here.data() + half, target_->memory().data() + half, bytes);

  const RunPair reverse = pair(half, half, bytes);
  const Call call{Operation::kWrite, kSlot, 1, {&reverse, 1}};
  ASSERT_TRUE(post(Operation::kWrite, {pair(0, 0, bytes)}).ok());
  ASSERT_TRUE(back->post(call).ok());
  ASSERT_TRUE(endpoint_->notify(kSlot, 50).ok());
  ASSERT_TRUE(back->notify(kSlot, 51).ok());
  ASSERT_TRUE(run_until([&] {
    return target_->notified.size() == endpoint_->lanes() &&
           source_->notified.size() == back->lanes();
  }));
  EXPECT_TRUE(source_->memory() == expected_here);
  EXPECT_TRUE(target_->memory() == expected_there);
}

TEST_P(TransferConformance, counts_what_it_did) {
  connect();
  const CallCounts before = source_->transport().counts();
  std::vector<RunPair> written = {pair(0, 0, 150)};
  if (takes(Operation::kWrite, 2, 2)) written = {pair(0, 0, 100), pair(500, 900, 50)};
  ASSERT_TRUE(complete(Operation::kWrite, written).ok());
  if (capabilities().read) {
    ASSERT_TRUE(complete(Operation::kRead, {pair(2000, 2000, 30)}).ok());
  }
  const CallCounts counts = endpoint_->counts();
  EXPECT_EQ(counts.network_calls, capabilities().read ? 2u : 1u);
  EXPECT_EQ(counts.run_pairs, written.size() + (capabilities().read ? 1 : 0));
  EXPECT_EQ(counts.bytes, capabilities().read ? 180u : 150u);
  EXPECT_EQ(counts.system_calls.has_value(), capabilities().counts_system_calls);
  endpoint_.reset();
  const CallCounts after = source_->transport().counts();
  EXPECT_EQ(after.bytes - before.bytes, counts.bytes) << "an endpoint that is gone still counts";
}

}  // namespace
}  // namespace mempool
