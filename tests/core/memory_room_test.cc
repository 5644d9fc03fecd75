// SPDX-License-Identifier: Apache-2.0
// Tests the question for room against made-up /proc and /sys trees.
#include "core/memory_room.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace mempool {
namespace {

class MemoryRoom : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "memory_room_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    write("/proc/meminfo", "MemTotal:       8000 kB\nMemFree:  10 kB\nMemAvailable:   4000 kB\n");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  uint64_t room() {
    const Result<uint64_t> bytes = available_memory_bytes(root_);
    EXPECT_TRUE(bytes.ok()) << bytes.status().to_string();
    return bytes.value();
  }

  static constexpr uint64_t kMachine = 4000 * 1024;
  std::string root_;
};

TEST_F(MemoryRoom, is_mem_available_without_cgroups) {
  EXPECT_EQ(room(), kMachine);
}

TEST_F(MemoryRoom, needs_proc) {
  write("/proc/meminfo", "MemTotal: 8000 kB\n");
  EXPECT_EQ(available_memory_bytes(root_).status().code(), StatusCode::kInternal);
  EXPECT_EQ(available_memory_bytes(root_ + "/nowhere").status().code(), StatusCode::kInternal);
}

TEST_F(MemoryRoom, is_what_the_own_cgroup_leaves) {
  write("/proc/self/cgroup", "0::/pod/agent\n");
  write("/sys/fs/cgroup/pod/agent/memory.max", "1000000\n");
  write("/sys/fs/cgroup/pod/agent/memory.current", "300000\n");
  EXPECT_EQ(room(), 700000u);
}

TEST_F(MemoryRoom, is_the_least_of_every_level_above) {
  write("/proc/self/cgroup", "0::/pod/agent\n");
  write("/sys/fs/cgroup/pod/agent/memory.max", "1000000\n");
  write("/sys/fs/cgroup/pod/agent/memory.current", "300000\n");
  write("/sys/fs/cgroup/pod/memory.max", "2000000\n");
  write("/sys/fs/cgroup/pod/memory.current", "1500000\n");
  EXPECT_EQ(room(), 500000u);
  write("/sys/fs/cgroup/memory.max", "1600000\n");
  write("/sys/fs/cgroup/memory.current", "1500000\n");
  EXPECT_EQ(room(), 100000u);
}

TEST_F(MemoryRoom, max_is_no_limit) {
  write("/proc/self/cgroup", "0::/pod\n");
  write("/sys/fs/cgroup/pod/memory.max", "max\n");
  write("/sys/fs/cgroup/pod/memory.high", "max\n");
  write("/sys/fs/cgroup/pod/memory.current", "300000\n");
  EXPECT_EQ(room(), kMachine);
}

TEST_F(MemoryRoom, high_limits_as_max_does) {
  write("/proc/self/cgroup", "0::/pod\n");
  write("/sys/fs/cgroup/pod/memory.max", "1000000\n");
  write("/sys/fs/cgroup/pod/memory.high", "900000\n");
  write("/sys/fs/cgroup/pod/memory.current", "300000\n");
  EXPECT_EQ(room(), 600000u);
}

TEST_F(MemoryRoom, cached_file_pages_count_as_free) {
  write("/proc/self/cgroup", "0::/pod\n");
  write("/sys/fs/cgroup/pod/memory.max", "1000000\n");
  write("/sys/fs/cgroup/pod/memory.current", "900000\n");
  write("/sys/fs/cgroup/pod/memory.stat", "anon 500000\nfile 400000\ninactive_file 300000\n");
  EXPECT_EQ(room(), 400000u);
}

TEST_F(MemoryRoom, is_nothing_when_usage_is_above_the_limit) {
  write("/proc/self/cgroup", "0::/pod\n");
  write("/sys/fs/cgroup/pod/memory.max", "1000000\n");
  write("/sys/fs/cgroup/pod/memory.current", "1000001\n");
  EXPECT_EQ(room(), 0u);
}

TEST_F(MemoryRoom, finds_its_own_cgroup_where_a_container_mounts_it_at_the_top) {
  write("/proc/self/cgroup", "0::/kubepods/not-visible-here\n");
  write("/sys/fs/cgroup/memory.max", "1000000\n");
  write("/sys/fs/cgroup/memory.current", "400000\n");
  EXPECT_EQ(room(), 600000u);
}

TEST_F(MemoryRoom, knows_version_1_at_every_level) {
  write("/proc/self/cgroup", "5:cpu,memory:/docker/abc\n4:memoryless:/other\n0::/\n");
  const std::string mount = "/sys/fs/cgroup/memory";
  write(mount + "/other/memory.limit_in_bytes", "1\n");
  write(mount + "/docker/abc/memory.limit_in_bytes", "9223372036854771712\n");
  write(mount + "/docker/abc/memory.usage_in_bytes", "100000\n");
  EXPECT_EQ(room(), kMachine);
  write(mount + "/docker/memory.limit_in_bytes", "1000000\n");
  write(mount + "/docker/memory.usage_in_bytes", "600000\n");
  write(mount + "/docker/memory.stat", "cache 1\ninactive_file 5\ntotal_inactive_file 200000\n");
  EXPECT_EQ(room(), 600000u);
}

TEST_F(MemoryRoom, lines_it_does_not_know_are_passed_over) {
  write("/proc/self/cgroup", "\nnonsense\n0:\n12:freezer:/x\n");
  EXPECT_EQ(room(), kMachine);
}

TEST_F(MemoryRoom, refusal_names_both_numbers_and_the_limit_itself_fits) {
  EXPECT_TRUE(check_room(kMachine, root_).ok());
  const Status status = check_room(kMachine + 1, root_);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("4096001"), std::string_view::npos) << status.message();
  EXPECT_NE(status.message().find("4096000"), std::string_view::npos) << status.message();
}

}  // namespace
}  // namespace mempool
