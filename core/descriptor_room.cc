// SPDX-License-Identifier: Apache-2.0
// Owns the counting of descriptors against their limit.
#include "core/descriptor_room.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "core/check.h"

namespace mempool {

void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);  // where it fails, the limit stays, and who needs more says so
}

Result<uint64_t> descriptor_room() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return internal_error(fmt::format("getrlimit: {}", std::strerror(errno)));
  }
  std::error_code error;
  std::filesystem::directory_iterator entry("/proc/self/fd", error);
  uint64_t seen = 0;
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) ++seen;
  if (error) return internal_error(fmt::format("/proc/self/fd: {}", error.message()));
  const uint64_t open = seen - 1;  // one was the folder's own
  return limit.rlim_cur - std::min<uint64_t>(limit.rlim_cur, open);
}

Status check_descriptor_room(uint64_t count) {
  MEMPOOL_ASSIGN_OR_RETURN(const uint64_t room, descriptor_room());
  if (count <= room) return Status();
  return resource_exhausted(
      fmt::format("{} descriptors are needed and this process may open {} more: raise the limit "
                  "(LimitNOFILE in a unit, ulimit -n in a shell)",
                  count, room));
}

}  // namespace mempool
