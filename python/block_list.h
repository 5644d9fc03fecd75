// SPDX-License-Identifier: Apache-2.0
// Owns lists of block addresses: the compact one that calls give, and the ones that they take.
#pragma once

#include <nanobind/nanobind.h>

#include <span>
#include <utility>
#include <vector>

#include "mempool/types.h"

namespace mempool::python {

/// What calls give and take: addresses in 16 bytes each, without an object for each.
struct Blocks {
  std::vector<BlockAddress> list;
};

/// The addresses of one argument: of a Blocks where they lie, else copied. Thread: confined, and
/// the argument outlives it.
class BlockList {
 public:
  /// Raises TypeError for what is neither Blocks nor a sequence of BlockAddress.
  explicit BlockList(nanobind::handle from);
  BlockList(const BlockList&) = delete;
  BlockList& operator=(const BlockList&) = delete;

  std::span<const BlockAddress> span() const { return blocks_; }

 private:
  std::vector<BlockAddress> copied_;
  std::span<const BlockAddress> blocks_;
};

/// Give numbers of 32 bits as array('I').
nanobind::object array_of(std::span<const uint32_t> numbers);

}  // namespace mempool::python
