// SPDX-License-Identifier: Apache-2.0
// Tests how the ucx backend judges what its self-test measured.
#include "transport/ucx/ucx_verdict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mempool {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr double kMegabyte = 1e6;

UcxSample good(uint64_t bytes, double megabytes_per_second = 1000) {
  return {bytes, {}, {}, megabytes_per_second * kMegabyte};
}

UcxSample with_put(UcxSample sample, Status put) {
  sample.put = std::move(put);
  return sample;
}

UcxSample with_get(UcxSample sample, Status get) {
  sample.get = std::move(get);
  return sample;
}

UcxVerdict judge(const std::vector<UcxSample>& samples) {
  return judge_ucx(samples);
}

TEST(UcxVerdict, what_is_right_at_every_size_is_used_up_to_the_last) {
  const UcxVerdict verdict = judge({good(4001), good(65536), good(262144)});
  EXPECT_TRUE(verdict.put);
  EXPECT_TRUE(verdict.get);
  EXPECT_EQ(verdict.bytes, 262144u);
  EXPECT_FALSE(verdict.final);
  EXPECT_THAT(verdict.turned_off, IsEmpty());
}

TEST(UcxVerdict, a_put_that_changes_bytes_of_any_size_turns_puts_off_alone) {
  for (const size_t at : {size_t{0}, size_t{1}, size_t{2}}) {
    std::vector<UcxSample> samples = {good(4001), good(65536), good(262144)};
    samples[at] = with_put(samples[at], corruption("a put changed them"));
    const UcxVerdict verdict = judge(samples);
    EXPECT_FALSE(verdict.put) << at;
    EXPECT_TRUE(verdict.get) << at;
    EXPECT_EQ(verdict.bytes, 262144u) << "gets go on";
    ASSERT_THAT(verdict.turned_off, SizeIs(1));
    EXPECT_THAT(std::string(verdict.turned_off[0].message()), HasSubstr("a put"));
  }
}

TEST(UcxVerdict, a_get_that_changes_bytes_of_any_size_turns_gets_off_alone) {
  for (const size_t at : {size_t{0}, size_t{1}, size_t{2}}) {
    std::vector<UcxSample> samples = {good(4001), good(65536), good(262144)};
    samples[at] = with_get(samples[at], corruption("a get changed them"));
    const UcxVerdict verdict = judge(samples);
    EXPECT_TRUE(verdict.put) << at;
    EXPECT_FALSE(verdict.get) << at;
    EXPECT_EQ(verdict.bytes, 262144u) << "puts go on";
    ASSERT_THAT(verdict.turned_off, SizeIs(1));
    EXPECT_THAT(std::string(verdict.turned_off[0].message()), HasSubstr("a get"));
  }
}

TEST(UcxVerdict, what_fails_with_the_smallest_size_is_turned_off) {
  const UcxVerdict verdict = judge({with_put(good(4001), unavailable("no puts")), good(65536)});
  EXPECT_FALSE(verdict.put);
  EXPECT_TRUE(verdict.get);
  EXPECT_EQ(verdict.bytes, 65536u);
}

TEST(UcxVerdict, what_fails_with_a_larger_size_bounds_a_call) {
  for (const bool put : {true, false}) {
    const Status full = resource_exhausted("no memory");
    const UcxSample failed = put ? with_put(good(262144), full) : with_get(good(262144), full);
    const UcxVerdict verdict = judge({good(4001), good(65536), failed});
    EXPECT_TRUE(verdict.put);
    EXPECT_TRUE(verdict.get);
    EXPECT_EQ(verdict.bytes, 65536u);
    EXPECT_TRUE(verdict.final);
    EXPECT_EQ(verdict.why, "no memory");
  }
}

TEST(UcxVerdict, puts_that_collapse_bound_a_call) {
  const UcxVerdict verdict = judge({good(4001, 10), good(65536, 240), good(262144, 59)});
  EXPECT_TRUE(verdict.put);
  EXPECT_EQ(verdict.bytes, 65536u);
  EXPECT_TRUE(verdict.final);
  EXPECT_THAT(verdict.why, HasSubstr("puts of 262144 bytes go at 59 MB/s, smaller ones at 240"));
  EXPECT_FALSE(judge({good(4001, 10), good(65536, 240), good(262144, 61)}).final);
}

TEST(UcxVerdict, gets_alone_know_no_collapse_of_puts) {
  const UcxSample wrong = with_put(good(65536, 240), corruption("a put changed them"));
  EXPECT_EQ(judge({good(4001, 240), wrong, good(262144, 0)}).bytes, 262144u);
}

TEST(UcxVerdict, nothing_is_left_where_both_are_wrong) {
  const UcxSample wrong_get = with_get(good(65536), corruption("a get changed them"));
  const UcxVerdict verdict =
      judge({with_put(good(4001), corruption("a put changed them")), wrong_get, good(262144)});
  EXPECT_FALSE(verdict.put);
  EXPECT_FALSE(verdict.get);
  EXPECT_TRUE(verdict.final);
  EXPECT_THAT(verdict.turned_off, SizeIs(2));
}

}  // namespace
}  // namespace mempool
