// SPDX-License-Identifier: Apache-2.0
// Owns the check of whether a NIC can reach the memory of this machine's GPUs.
#include <fmt/format.h>
#include <sys/utsname.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "cli/doctor_check.h"

namespace mempool {
namespace {

namespace fs = std::filesystem;

/// Tell whether a line of the file has the words.
bool has_line(const fs::path& path, const std::string& words) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.find(words) != std::string::npos) return true;
  }
  return false;
}

/// Whether the kernel can hand memory of one device to another as a dma-buf.
bool kernel_shares_buffers() {
  utsname names{};
  int major = 0;
  int minor = 0;
  uname(&names);
  if (std::sscanf(names.release, "%d.%d", &major, &minor) != 2) return false;
  return major > 5 || (major == 5 && minor >= 12);
}

}  // namespace

std::vector<DoctorCheck> check_gpus(const std::string& proc) {
  const fs::path driver = fs::path(proc) / "driver/nvidia";
  std::error_code ignored;
  const auto gpus =
      std::distance(fs::directory_iterator(driver / "gpus", ignored), fs::directory_iterator());
  if (gpus == 0) return {};
  DoctorCheck check{"gpu memory", CheckState::kOk, fmt::format("{} NVIDIA GPUs; ", gpus), "",
                    false};
  if (has_line(fs::path(proc) / "modules", "nvidia_peermem ")) {
    check.found += "a NIC reaches their memory by nvidia_peermem";
  } else if (has_line(driver / "version", "Open Kernel Module") && kernel_shares_buffers()) {
    check.found += "a NIC may reach their memory by dma-buf";
  } else {
    check.state = CheckState::kNo;
    check.found += "neither nvidia_peermem nor a driver that gives dma-bufs";
    check.mend =
        "modprobe nvidia_peermem, or NVIDIA's open kernel modules on Linux 5.12 or newer; "
        "a pool of host memory does without";
  }
  return {check};
}

}  // namespace mempool
