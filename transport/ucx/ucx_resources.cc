// SPDX-License-Identifier: Apache-2.0
// Owns the forms in which UCX prints resources and lanes.
#include "transport/ucx/ucx_resources.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace mempool {
namespace {

// Give the first word of `line` that has a '/'; empty where none has.
std::string_view word_with_slash(std::string_view line) {
  const size_t slash = line.find('/');
  if (slash == std::string_view::npos) return {};
  const size_t begin = line.find_last_of(" \t", slash) + 1;  // npos + 1 is 0
  const size_t end = std::min(line.find_first_of(" \t\r", slash), line.size());
  return line.substr(begin, end - begin);
}

template <typename Each>
void for_each_line(std::string_view text, const Each& each) {
  for (size_t from = 0; from < text.size();) {
    const size_t to = std::min(text.find('\n', from), text.size());
    each(text.substr(from, to - from));
    from = to + 1;
  }
}

}  // namespace

// "#      resource 0  :  md 0  dev 0  flags a- rc_verbs/mlx5_0:1"
std::vector<UcxResource> parse_ucx_resources(std::string_view printed) {
  std::vector<UcxResource> resources;
  for_each_line(printed, [&](std::string_view line) {
    if (line.find("resource") == std::string_view::npos) return;
    const std::string_view word = word_with_slash(line);
    const size_t slash = word.find('/');
    if (slash == std::string_view::npos) return;
    resources.push_back({std::string(word.substr(0, slash)), std::string(word.substr(slash + 1)),
                         line.find("flags a") != std::string_view::npos});
  });
  return resources;
}

bool all_rdma(const std::vector<UcxResource>& resources) {
  bool any = false;
  for (const UcxResource& one : resources) {
    if (one.auxiliary || one.transport == "self") continue;
    if (!one.transport.starts_with("rc_") && !one.transport.starts_with("dc_")) return false;
    any = true;
  }
  return any;
}

// "#   lane[0]:  2:rc_verbs/mlx5_0:1.0 md[1]  -> ..."; the number behind the dot is of the path.
std::string parse_ucx_route(std::string_view printed) {
  std::vector<std::string> route;
  for_each_line(printed, [&](std::string_view line) {
    const size_t lane = line.find("lane[");
    if (lane == std::string_view::npos) return;
    std::string_view word = word_with_slash(line.substr(0, line.find("->")));
    word.remove_prefix(std::min(word.find(':') + 1, word.find('/')));
    word = word.substr(0, word.rfind('.'));
    if (!word.empty() && std::ranges::find(route, word) == route.end()) route.emplace_back(word);
  });
  return fmt::format("{}", fmt::join(route, ", "));
}

}  // namespace mempool
