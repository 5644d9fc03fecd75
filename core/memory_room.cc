// SPDX-License-Identifier: Apache-2.0
// Owns the reading of /proc and of the files of cgroup versions 1 and 2.
#include "core/memory_room.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <initializer_list>
#include <optional>
#include <string_view>

#include "core/check.h"

namespace mempool {
namespace {

/// The files of one cgroup version.
struct CgroupFiles {
  const char* mount;
  std::initializer_list<const char*> limits;
  const char* usage;
  const char* cache_field;  // of memory.stat: file pages that the kernel drops first
};

constexpr CgroupFiles kVersion2 = {
    "/sys/fs/cgroup", {"memory.max", "memory.high"}, "memory.current", "inactive_file"};
constexpr CgroupFiles kVersion1 = {"/sys/fs/cgroup/memory",
                                   {"memory.limit_in_bytes"},
                                   "memory.usage_in_bytes",
                                   "total_inactive_file"};

std::optional<uint64_t> parse_number(std::string_view text) {
  const size_t start = std::min(text.find_first_not_of(" \t"), text.size());
  uint64_t number = 0;
  const auto parsed = std::from_chars(text.data() + start, text.data() + text.size(), number);
  if (parsed.ec != std::errc()) return std::nullopt;
  return number;
}

/// The number on the line that begins with `field` (an empty one: on the first line). Nothing for a
/// file that is not there and for a word such as "max".
std::optional<uint64_t> read_number(const std::string& path, std::string_view field = "") {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(field)) return parse_number(std::string_view(line).substr(field.size()));
  }
  return std::nullopt;
}

/// What one cgroup leaves, or nothing where it sets no limit.
std::optional<uint64_t> cgroup_room(const std::string& folder, const CgroupFiles& files) {
  std::optional<uint64_t> limit;
  for (const char* name : files.limits) {
    const std::optional<uint64_t> found = read_number(folder + "/" + name);
    if (found) limit = std::min(limit.value_or(*found), *found);
  }
  if (!limit) return std::nullopt;
  const uint64_t used = read_number(folder + "/" + files.usage).value_or(0);
  const uint64_t cached = read_number(folder + "/memory.stat", files.cache_field).value_or(0);
  const uint64_t held = used - std::min(used, cached);
  return *limit - std::min(*limit, held);
}

/// The least that `path` and every cgroup above it leave. Inside a container the path may be the
/// host's, whose lower levels are not mounted here; the mount's top then is our own cgroup.
uint64_t path_room(const std::string& root, const CgroupFiles& files, std::string path) {
  uint64_t room = UINT64_MAX;
  for (;;) {
    while (path.ends_with('/')) path.pop_back();
    const std::string folder = root + files.mount + path;
    room = std::min(room, cgroup_room(folder, files).value_or(UINT64_MAX));
    if (path.empty()) return room;
    path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  }
}

/// Tell whether `name` is one of the words between the commas of `list`.
bool lists(std::string_view list, std::string_view name) {
  return fmt::format(",{},", list).find(fmt::format(",{},", name)) != std::string::npos;
}

}  // namespace

Result<uint64_t> available_memory_bytes(const std::string& root) {
  const std::string meminfo = root + "/proc/meminfo";
  const std::optional<uint64_t> available_kib = read_number(meminfo, "MemAvailable:");
  if (!available_kib) return internal_error(meminfo + " has no MemAvailable: mount /proc");
  uint64_t room = *available_kib * 1024;
  // Lines are "id:controllers:path"; version 2 has the one line "0::path".
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) room = std::min(room, path_room(root, kVersion2, path));
    if (lists(controllers, "memory")) room = std::min(room, path_room(root, kVersion1, path));
  }
  return room;
}

Status check_room(uint64_t bytes, const std::string& root) {
  MEMPOOL_ASSIGN_OR_RETURN(const uint64_t room, available_memory_bytes(root));
  if (bytes <= room) return Status();
  return resource_exhausted(fmt::format(
      "{} bytes are asked for, the machine and its cgroups have {} left: ask for fewer, "
      "or raise the limit",
      bytes, room));
}

}  // namespace mempool
