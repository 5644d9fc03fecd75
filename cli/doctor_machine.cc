// SPDX-License-Identifier: Apache-2.0
// Owns the checks of the machine's memory and limits.
#include <fmt/format.h>
#include <linux/mman.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <utility>

#include "agent/agent_config.h"
#include "cli/doctor_check.h"
#include "core/descriptor_room.h"
#include "core/memory_room.h"

namespace mempool {
namespace {

constexpr uint64_t kHugePageBytes = 2 << 20;
constexpr uint64_t kDevShmLeast = 64 << 20;  // what containers give by default

/// A word of a file of /proc or /sys, from the line that begins with `field`.
std::optional<std::string> read_word(const char* path, const std::string& field = "") {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(field)) continue;
    const size_t start = line.find_first_not_of(" \t", field.size());
    return start == std::string::npos ? "" : line.substr(start);
  }
  return std::nullopt;
}

uint64_t available_bytes() {
  const auto kib = read_word("/proc/meminfo", "MemAvailable:");
  return kib ? std::strtoull(kib->c_str(), nullptr, 10) * 1024 : 0;
}

DoctorCheck check_memory(uint64_t wanted) {
  DoctorCheck check{"memory", CheckState::kUnknown, "", "", true};
  const Result<uint64_t> room = available_memory_bytes();
  if (!room.ok()) {
    check.found = room.status().message();
    check.mend = "mount /proc";
    return check;
  }
  const uint64_t available = available_bytes();
  check.state = wanted <= *room ? CheckState::kOk : CheckState::kNo;
  check.found =
      fmt::format("the pool takes {}; MemAvailable {}, {}", size_text(wanted), size_text(available),
                  *room < available ? "of which a cgroup leaves " + size_text(*room)
                                    : std::string("no cgroup leaves less"));
  if (check.state == CheckState::kOk) return check;
  check.mend = *room < available ? "smaller pool.bytes, or raise the cgroup's memory.max"
                                 : "smaller pool.bytes, or free memory";
  return check;
}

/// Lock as much as the pool has, without touching it. RDMA pins it under the same limit, anew for
/// each device.
DoctorCheck check_memlock(const AgentOptions& options, uint64_t wanted) {
  const bool needed = std::ranges::any_of(
      options.require, [](const std::string& name) { return name == "rdma" || name == "verbs"; });
  DoctorCheck check{"memlock", CheckState::kUnknown, "", "", needed};
  rlimit limit{};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  const std::string limit_text =
      limit.rlim_cur == RLIM_INFINITY ? "unlimited" : size_text(limit.rlim_cur);
  void* const data = mmap(nullptr, wanted, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    check.found = fmt::format("RLIMIT_MEMLOCK {}; mapping {} to try it: {}", limit_text,
                              size_text(wanted), std::strerror(errno));
    check.mend = "a smaller pool, or more address space (ulimit -v)";
    return check;
  }
  const bool locked = mlock2(data, wanted, MLOCK_ONFAULT) == 0;
  const int error = errno;
  munmap(data, wanted);
  const bool known = locked || error == ENOMEM || error == EPERM || error == EAGAIN;
  if (known) check.state = locked ? CheckState::kOk : CheckState::kNo;
  check.found = fmt::format("RLIMIT_MEMLOCK {}; locking the pool's {}: {}", limit_text,
                            size_text(wanted), locked ? "works" : std::strerror(error));
  if (!locked) {
    check.mend =
        "LimitMEMLOCK=infinity in the unit, --ulimit memlock=-1 of the container, or ulimit -l; "
        "only RDMA asks for it";
  }
  return check;
}

DoctorCheck check_huge_pages(uint64_t wanted) {
  DoctorCheck check{"huge pages", CheckState::kUnknown, "", "", false};
  const auto free = read_word("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
  if (!free) {
    check.found = "the kernel shows no pool of 2 MiB pages";
    check.mend = "a kernel with hugetlbfs; the pool does without";
    return check;
  }
  void* const page = mmap(nullptr, kHugePageBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB, -1, 0);
  check.state = page != MAP_FAILED ? CheckState::kOk : CheckState::kNo;
  check.found = fmt::format("{} free pages of 2 MiB; mapping one: {}", *free,
                            page != MAP_FAILED ? "works" : std::strerror(errno));
  if (page != MAP_FAILED) {
    munmap(page, kHugePageBytes);
  } else {
    check.mend = fmt::format("sysctl vm.nr_hugepages={}; the pool does without",
                             (wanted + kHugePageBytes - 1) / kHugePageBytes);
  }
  return check;
}

DoctorCheck check_shmem_huge() {
  DoctorCheck check{"shmem huge", CheckState::kUnknown, "", "", false};
  constexpr auto kPath = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
  const auto words = read_word(kPath);
  if (!words) {
    check.found = fmt::format("there is no {}", kPath);
    check.mend = "a kernel with transparent huge pages; the pool does without";
    return check;
  }
  const size_t open = words->find('[');
  const std::string chosen =
      open == std::string::npos ? *words : words->substr(open + 1, words->find(']') - open - 1);
  const bool used = chosen == "always" || chosen == "within_size" || chosen == "force";
  check.state = used ? CheckState::kOk : CheckState::kNo;
  check.found = fmt::format("shmem_enabled is {}", chosen);
  if (!used) check.mend = fmt::format("echo within_size > {}; the pool does without", kPath);
  return check;
}

DoctorCheck check_dev_shm() {
  DoctorCheck check{"/dev/shm", CheckState::kUnknown, "", "", false};
  struct statvfs facts {};
  if (statvfs("/dev/shm", &facts) != 0) {
    check.found = std::strerror(errno);
    check.mend = "mount a tmpfs there; mempool does without, engines and NCCL do not";
    return check;
  }
  const uint64_t free = facts.f_bavail * facts.f_frsize;
  check.state = free >= kDevShmLeast ? CheckState::kOk : CheckState::kNo;
  check.found = fmt::format("free {} of {}; the pool is a memfd and does not count",
                            size_text(free), size_text(facts.f_blocks * facts.f_frsize));
  if (check.state == CheckState::kNo) {
    check.mend = "mount -o remount,size=1G /dev/shm, or --shm-size of the container";
  }
  return check;
}

/// As the agent does: raise the limit, then count.
DoctorCheck check_descriptors(const AgentOptions& options) {
  DoctorCheck check{"descriptors", CheckState::kUnknown, "", "", true};
  raise_descriptor_limit();
  const Result<uint64_t> room = descriptor_room();
  if (!room.ok()) {
    check.found = room.status().message();
    check.mend = "mount /proc";
    return check;
  }
  const uint64_t start = descriptors_at_start(options);
  check.state = start <= *room ? CheckState::kOk : CheckState::kNo;
  check.found =
      fmt::format("{} may be opened; {} are taken at start, {} by limits.max_connections peers",
                  *room, start, descriptors_of_peers(options));
  if (check.state == CheckState::kNo) {
    check.mend = "LimitNOFILE in the unit, or ulimit -Hn; or fewer pool.segments";
  }
  return check;
}

}  // namespace

uint64_t pool_bytes(const AgentOptions& options) {
  const Result<std::vector<Placement>> shards =
      make_shards(options.content, options.placement, options.shards);
  if (!shards.ok()) return 0;
  uint64_t sum = 0;
  for (const uint32_t blocks : options.segment_blocks) {
    const Result<BlockLayout> layout = make_layout(options.content, shards->front(), blocks);
    if (layout.ok()) sum += layout->block_bytes * blocks * shards->size();  // each is as large
  }
  return sum;
}

std::string size_text(uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  return fmt::format("{:.{}f} {}", value, unit == 0 ? 0 : 1, kUnits[unit]);
}

std::vector<DoctorCheck> check_machine(const AgentOptions& options) {
  const uint64_t wanted = pool_bytes(options);
  std::vector<DoctorCheck> checks = {check_memory(wanted),     check_memlock(options, wanted),
                                     check_huge_pages(wanted), check_shmem_huge(),
                                     check_dev_shm(),          check_descriptors(options)};
  for (DoctorCheck& check : check_gpus("/proc")) checks.push_back(std::move(check));
  return checks;
}

}  // namespace mempool
