// SPDX-License-Identifier: Apache-2.0
// Owns the laying out of the other side of a bare copy.
#include "perf/bare_copy.h"

#include <cstring>

#include "core/check.h"

namespace mempool {

Result<BareCopy> BareCopy::open(const std::vector<iovec>& pieces, bool scattered, bool into) {
  const size_t gaps = scattered ? 2 : 1;  // a free piece behind each
  uint64_t bytes = 0;
  for (const iovec& piece : pieces) bytes += piece.iov_len * gaps;
  BareCopy copy;
  MEMPOOL_ASSIGN_OR_RETURN(copy.memory_, HostMemory::create("bare-copy", bytes));
  std::byte* other = copy.memory_.data();
  for (const iovec& piece : pieces) {
    copy.copies_.push_back(into ? Copy{piece.iov_base, other, piece.iov_len}
                                : Copy{other, piece.iov_base, piece.iov_len});
    other += piece.iov_len * gaps;
  }
  return copy;
}

void BareCopy::move() {
  for (const Copy& copy : copies_) std::memcpy(copy.to, copy.from, copy.bytes);
}

}  // namespace mempool
