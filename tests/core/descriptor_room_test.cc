// SPDX-License-Identifier: Apache-2.0
// Owns the checks of what is left of the limit on descriptors.
#include "core/descriptor_room.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include "core/descriptor.h"

namespace mempool {
namespace {

/// Puts the limit back as it was.
class DescriptorRoomTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before_), 0); }
  void TearDown() override { ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before_), 0); }
  void lower_to(rlim_t most) const {
    rlimit lower = before_;
    lower.rlim_cur = most;
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &lower), 0);
  }

  rlimit before_{};
};

TEST_F(DescriptorRoomTest, each_open_descriptor_leaves_one_less) {
  lower_to(64);
  const auto before = descriptor_room();
  ASSERT_TRUE(before.ok()) << before.status().to_string();
  EXPECT_LT(*before, 64u);
  const auto one = make_event();
  ASSERT_TRUE(one.ok());
  EXPECT_EQ(descriptor_room().value(), *before - 1);
}

TEST_F(DescriptorRoomTest, more_than_there_is_room_for_is_refused_with_both_numbers) {
  lower_to(64);
  const uint64_t room = descriptor_room().value();
  EXPECT_TRUE(check_descriptor_room(room).ok());
  const Status refused = check_descriptor_room(1000);
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
  for (const std::string& part :
       {std::string("1000"), std::to_string(room), std::string("LimitNOFILE")}) {
    EXPECT_NE(refused.message().find(part), std::string_view::npos) << refused.to_string();
  }
}

TEST_F(DescriptorRoomTest, the_limit_is_raised_as_far_as_it_may_be) {
  lower_to(64);
  raise_descriptor_limit();
  rlimit now{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &now), 0);
  EXPECT_EQ(now.rlim_cur, before_.rlim_max);
}

}  // namespace
}  // namespace mempool
