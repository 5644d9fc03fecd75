// SPDX-License-Identifier: Apache-2.0
// Tests what `mempool doctor` makes of a driver's files, of GPUs that this machine need not have.
#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/doctor_check.h"
#include "core/random.h"

namespace mempool {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

/// Stands in for /proc. Thread: confined.
class DriverFiles {
 public:
  DriverFiles() : root_(fs::temp_directory_path() / ("mempool-" + std::to_string(random_word()))) {
    fs::create_directories(root_);
  }
  ~DriverFiles() { fs::remove_all(root_); }
  DriverFiles(const DriverFiles&) = delete;
  DriverFiles& operator=(const DriverFiles&) = delete;

  void put_gpu() { fs::create_directories(root_ / "driver/nvidia/gpus/0000:17:00.0"); }
  void put(const std::string& file, const std::string& text) {
    std::ofstream(root_ / file) << text << '\n';
  }
  std::vector<DoctorCheck> checks() const { return check_gpus(root_.string()); }

 private:
  fs::path root_;
};

TEST(DoctorGpu, machine_without_one_has_no_row) {
  const DriverFiles files;
  EXPECT_TRUE(files.checks().empty());
}

TEST(DoctorGpu, closed_driver_without_peermem_is_told_the_mend) {
  DriverFiles files;
  files.put_gpu();
  files.put("driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01");
  files.put("modules", "nvidia 56823808 1 nvidia_uvm, Live 0x0000000000000000");
  ASSERT_EQ(files.checks().size(), 1u);
  EXPECT_EQ(files.checks()[0].state, CheckState::kNo);
  EXPECT_THAT(files.checks()[0].mend, HasSubstr("nvidia_peermem"));
  EXPECT_FALSE(files.checks()[0].needed);
}

TEST(DoctorGpu, peermem_serves_any_driver) {
  DriverFiles files;
  files.put_gpu();
  files.put("modules", "nvidia_peermem 16384 0 - Live 0x0000000000000000");
  ASSERT_EQ(files.checks().size(), 1u);
  EXPECT_EQ(files.checks()[0].state, CheckState::kOk);
  EXPECT_THAT(files.checks()[0].found, HasSubstr("nvidia_peermem"));
}

TEST(DoctorGpu, open_driver_gives_dma_bufs) {
  DriverFiles files;
  files.put_gpu();
  files.put("driver/nvidia/version",
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.14  Release Build");
  ASSERT_EQ(files.checks().size(), 1u);
  EXPECT_EQ(files.checks()[0].state, CheckState::kOk);
  EXPECT_THAT(files.checks()[0].found, HasSubstr("dma-buf"));
}

}  // namespace
}  // namespace mempool
