// SPDX-License-Identifier: Apache-2.0
// Owns the cutting of an option that is a list.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

namespace mempool {

/// Give the entries of a list with commas between them; empty ones are none.
inline std::vector<std::string> split_option(const std::string& list) {
  std::vector<std::string> entries;
  for (size_t from = 0; from < list.size();) {
    const size_t to = std::min(list.find(',', from), list.size());
    if (to > from) entries.push_back(list.substr(from, to - from));
    from = to + 1;
  }
  return entries;
}

}  // namespace mempool
