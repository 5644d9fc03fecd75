// SPDX-License-Identifier: Apache-2.0
// Owns what the files of the source machine share.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "core/clock.h"
#include "mempool/types.h"

namespace mempool {

inline double microseconds(Duration duration) {
  return std::chrono::duration<double, std::micro>(duration).count();
}

inline std::vector<uint32_t> indices(std::span<const BlockAddress> addresses) {
  std::vector<uint32_t> result;
  result.reserve(addresses.size());
  for (const BlockAddress& address : addresses) result.push_back(address.index());
  return result;
}

}  // namespace mempool
